"""Which findings a measure averages, and what a test set holds of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.bootstrap import Counts
from orchestrator.report.stats.estimate import FEW, Status
from orchestrator.report.values import LabelInfo


def measure_of(measures: Mapping[str, str], *, phases: Sequence[str], card: str) -> str:
    """Return the measure of a test set: named by card, else by one of its phases, else the default."""
    for name in (card, *sorted(phases)):
        if name in measures:
            return measures[name]
    return measures.get("default", "auroc_macro")


def members(measure: str, labels: Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the findings that a measure averages: `auroc`, `auroc_macro`, `auroc_<group of the card>` or `auroc/<finding>`.

    Raises ReportError for any other measure.
    """
    if measure in ("auroc", "auroc_macro"):
        return tuple(labels)
    if measure.startswith("auroc/"):
        wanted: Sequence[str] = (measure.removeprefix("auroc/"),)
    else:
        wanted = groups.get(measure.removeprefix("auroc_"), ()) if measure.startswith("auroc_") else ()
    missing = [label for label in wanted if label not in labels]
    if not wanted or missing:
        known = ", ".join(["auroc_macro", *(f"auroc_{name}" for name in sorted(groups)), *(f"auroc/{label}" for label in labels)])
        why = f"needs '{missing[0]}', which is not scored here" if missing else "is not known"
        raise ReportError(f"measure '{measure}' {why}; set `report.measure` to one of: {known}")
    return tuple(wanted)


def measure_title(measure: str, labels: Sequence[str]) -> str:
    """Return what a measure is called on a page."""
    if measure.startswith("auroc/") or len(labels) == 1:
        return f"AUROC, {title_of(labels[0]).lower()}" if labels else "AUROC"
    group = measure.removeprefix("auroc").strip("_")
    return "macro AUROC" if group in ("", "macro") else f"macro AUROC, {group} findings"


def title_of(label: str) -> str:
    """Return a finding's slug as words."""
    words = label.replace("_", " ")
    return words[:1].upper() + words[1:]


def label_infos(frame: Predictions, cluster: np.ndarray, counts: Counts, wanted: Sequence[str]) -> tuple[LabelInfo, ...]:
    """Count what a test set holds of each finding, and say which findings enter the measure."""
    return tuple(_info(frame, column, cluster, counts, wanted) for column in range(len(frame.labels)))


def _info(frame: Predictions, column: int, cluster: np.ndarray, counts: Counts, wanted: Sequence[str]) -> LabelInfo:
    name, truth = frame.labels[column], frame.truth[:, column]
    cases = [int((truth == value).sum()) for value in (1, 0)]
    of_class = [np.unique(cluster[truth == value]) for value in (1, 0)]
    patients = [len(found) for found in of_class]
    estimable = min(patients) >= 2
    status: tuple[str, ...] = ()
    if not estimable:
        status = (Status.NOT_ESTIMABLE,)
    elif min(*cases, *patients) < FEW:
        status = (Status.FEW_POSITIVES,)
    return LabelInfo(
        name=name,
        title=title_of(name),
        n_positive=cases[0],
        n_negative=cases[1],
        n_positive_patients=patients[0],
        n_negative_patients=patients[1],
        valid_share=_valid_share(of_class, counts),
        in_measure=estimable and name in wanted,
        status=status,
    )


def _valid_share(of_class: Sequence[np.ndarray], counts: Counts) -> float:
    drawn = [counts.tiles[:, found].any(axis=1).ravel()[: counts.replicates] for found in of_class]
    return float((drawn[0] & drawn[1]).mean())
