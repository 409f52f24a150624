"""Which findings a measure averages, and what a test set holds of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.frames import Frame
from orchestrator.report.kinds import KINDS, Kind
from orchestrator.report.masks import Masks
from orchestrator.report.stats.bootstrap import Counts
from orchestrator.report.stats.estimate import FEW, Status
from orchestrator.report.values import LabelInfo


def measure_of(measures: Mapping[str, str], *, phases: Sequence[str], card: str) -> str:
    """Return the measure of a test set: named by card, else by one of its phases, else the default."""
    for name in (card, *sorted(phases)):
        if name in measures:
            return measures[name]
    return measures.get("default", "auroc_macro")


def kind_of(measure: str) -> Kind | None:
    """Return the kind that a measure starts with, the longest name first; None when there is none."""
    fitting = [kind for name, kind in KINDS.items() if measure == name or measure.startswith((f"{name}_", f"{name}/"))]
    return max(fitting, key=lambda kind: len(kind.name), default=None)


def members(measure: str, frame: Frame, groups: Mapping[str, Sequence[str]]) -> tuple[Kind, tuple[str, ...]]:
    """Return a measure's kind, and the findings that it is of: `auroc_macro`, `auroc_<group of the card>`, `auroc/<finding>`, and so on.

    Raises ReportError for any other measure, and for one that cannot be made of what the runs left.
    """
    kind, labels = kind_of(measure), frame.labels
    if kind is not None and not isinstance(frame, kind.frame):
        left = "masks" if isinstance(frame, Masks) else "scores"
        raise ReportError(f"measure '{measure}' cannot be made of {left}; set `report.measure` to one of: {_known(frame, groups)}")
    if kind is None:
        raise ReportError(f"measure '{measure}' is not known; set `report.measure` to one of: {_known(frame, groups)}")
    rest = measure.removeprefix(kind.name)
    if rest in ("", "_macro") or (kind.pooled and rest == ""):
        wanted: Sequence[str] = labels
    elif kind.pooled:
        wanted = ()
    elif rest.startswith("/"):
        wanted = (rest[1:],)
    else:
        wanted = groups.get(rest[1:], ())
    missing = [label for label in wanted if label not in labels]
    if not wanted or missing:
        why = f"needs '{missing[0]}', which is not scored here" if missing else "is not known"
        raise ReportError(f"measure '{measure}' {why}; set `report.measure` to one of: {_known(frame, groups)}")
    if kind.fault is not None and (fault := kind.fault(frame)):
        raise ReportError(f"measure '{measure}': {fault}")
    return kind, tuple(wanted)


def further_kinds(frame: Frame, shown: Kind) -> list[Kind]:
    """Return by what else masks are measured: everything that they have, besides what is shown; nothing for scores.

    The mean with empty masks counted is another number only where an image is without a structure.
    """
    if not isinstance(frame, Masks):
        return []
    left_out = {shown.name} | (set() if (frame.truth == 0).any() else {"dice_as_published"}) | ({"hd95"} if frame.hd95 is None else set())
    return [kind for kind in KINDS.values() if kind.frame is Masks and kind.name not in left_out]


def _known(frame: Frame, groups: Mapping[str, Sequence[str]]) -> str:
    names: list[str] = []
    for name, kind in KINDS.items():
        if isinstance(frame, kind.frame):
            groups_here = [] if kind.pooled else sorted(groups)
            names += [name if kind.pooled else f"{name}_macro", *(f"{name}_{group}" for group in groups_here)]
    return ", ".join([*names, *(f"{_first(frame)}/{label}" for label in frame.labels)])


def _first(frame: Frame) -> str:
    return next(name for name, kind in KINDS.items() if isinstance(frame, kind.frame))


def measure_title(measure: str, labels: Sequence[str]) -> str:
    """Return what a measure is called on a page."""
    kind = kind_of(measure)
    if kind is None:
        return measure
    if kind.pooled:
        return kind.title
    rest = measure.removeprefix(kind.name)
    if rest.startswith("/") or len(labels) == 1:
        return f"{kind.title}, {title_of(labels[0]).lower()}" if labels else kind.title
    if kind.frame is Masks:
        return f"{kind.title}, mean over structures"
    return f"macro {kind.title}" if rest in ("", "_macro") else f"macro {kind.title}, {rest[1:]} findings"


def title_of(label: str) -> str:
    """Return a finding's slug as words."""
    words = label.replace("_", " ")
    return words[:1].upper() + words[1:]


def label_infos(frame: Frame, cluster: np.ndarray, counts: Counts, kind: Kind, wanted: Sequence[str]) -> tuple[LabelInfo, ...]:
    """Count what a test set holds of each finding, and say which findings enter the measure."""
    return tuple(_info(frame, column, cluster, counts, kind, wanted) for column in range(len(frame.labels)))


def _info(frame: Frame, column: int, cluster: np.ndarray, counts: Counts, kind: Kind, wanted: Sequence[str]) -> LabelInfo:
    name, truth = frame.labels[column], frame.truth[:, column]
    cases = [int((truth == value).sum()) for value in (1, 0)]
    of_class = [np.unique(cluster[truth == value]) for value in (1, 0)]
    patients = [len(found) for found in of_class]
    needs = KINDS[kind.by_finding].needs if kind.pooled else kind.needs
    status: tuple[str, ...] = ()
    if _fewest(needs, patients, cluster[truth >= 0]) < 2:
        status = (Status.NOT_ESTIMABLE,)
    elif min(_fewest(needs, cases, np.flatnonzero(truth >= 0)), _fewest(needs, patients, cluster[truth >= 0])) < FEW:
        status = (Status.FEW_CASES if needs == "cases" else Status.FEW_POSITIVES,)
    return LabelInfo(
        name=name,
        title=title_of(name),
        n_positive=cases[0],
        n_negative=cases[1],
        n_positive_patients=patients[0],
        n_negative_patients=patients[1],
        valid_share=_valid_share(of_class, counts) if needs == "both" else 1.0,
        in_measure=name in wanted and (kind.pooled or Status.NOT_ESTIMABLE not in status),
        status=status,
    )


def _fewest(needs: str, of_class: Sequence[int], every: np.ndarray) -> int:
    """Return the smallest number that a kind of measure rests on."""
    return {"both": min(of_class), "positives": of_class[0], "cases": len(np.unique(every))}[needs]


def _valid_share(of_class: Sequence[np.ndarray], counts: Counts) -> float:
    drawn = [counts.tiles[:, found].any(axis=1).ravel()[: counts.replicates] for found in of_class]
    return float((drawn[0] & drawn[1]).mean())
