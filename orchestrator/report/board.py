"""One test set and every run on it: the same rows, the same resamples, and per run the numbers that all answers are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.measures import label_infos, members
from orchestrator.report.predictions import Predictions, first_disagreement
from orchestrator.report.results import Run
from orchestrator.report.stats.bootstrap import Counts, auroc_replicates, engine_for, resample
from orchestrator.report.stats.influence import influence
from orchestrator.report.stats.ranking import Ranked, placements
from orchestrator.report.values import LabelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """One area of one run: its value, influence values (clusters,) and bootstrap replicates (replicates,)."""

    value: float
    #: None where a class is in fewer than two clusters.
    influence: np.ndarray | None
    replicates: np.ndarray
    #: Whether every case has the same score, for this finding or one of those averaged.
    constant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One run with its areas by finding; under None the mean over the findings of the measure, absent when there are none."""

    run: Run
    areas: Mapping[str | None, Area]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One test set with all runs that are there."""

    frame: Predictions
    counts: Counts
    clusters: int
    labels: tuple[LabelInfo, ...]
    scored: Mapping[str, Scored]
    #: Findings that only some runs score, and which therefore no run is compared on.
    left_out: tuple[str, ...]


def check_same_rows(runs: Sequence[Run], title: str) -> None:
    """Refuse runs that were scored on different rows. Raises ReportError naming the runs of the smaller group."""
    digests: dict[str, list[Run]] = {}
    for run in runs:
        digests.setdefault(str((run.result or {}).get("test_digest", "")), []).append(run)
    if len(digests) > 1:
        groups = sorted(digests.values(), key=lambda group: (len(group), group[0].name))
        odd, usual = groups[0], groups[-1]
        raise ReportError(
            f"test set {title}: {_names(odd)} scored {_rows(odd[0])}, and {_names(usual)} {_rows(usual[0])}; they cannot be compared"
            f"{_where(odd[0], usual[0])}. Evaluate them on the same split of the same card"
        )


def _names(runs: Sequence[Run]) -> str:
    named = ", ".join(run.name for run in runs[:3])
    return named if len(runs) <= 3 else f"{named} and {len(runs) - 3} more"


def _where(run: Run, other: Run) -> str:
    if run.predictions is None or other.predictions is None:
        return ""
    found = first_disagreement(run.predictions, other.predictions, (run.name, other.name))
    return f": {found}" if found else ""


def _rows(run: Run) -> str:
    result = run.result or {}
    count = result.get("n_units", result.get("n_images", "?"))
    return f"{count} units (digest {str(result.get('test_digest', 'none'))[:12]})"


def lay_out(
    runs: Sequence[Run], *, title: str, measure: str, groups: Mapping[str, Sequence[str]], cluster: str, resamples: int, seed: int = 0
) -> Board:
    """Align runs on one frame and compute their areas. Raises ReportError when they were not scored on the same rows and truths."""
    check_same_rows(runs, title)
    every = [one.labels for run in runs if (one := run.predictions) is not None]
    common = [label for label in every[0] if all(label in labels for labels in every)]
    if not common:
        raise ReportError(f"test set {title}: its runs share no label, so nothing can be compared; give their phases the same labels")
    frames = {run.job: run.predictions.only(common) for run in runs if run.predictions is not None}
    first = frames[runs[0].job]
    for run in runs[1:]:
        if frames[run.job].frame_digest() != first.frame_digest():
            raise ReportError(
                f"test set {title}: {run.name} and {runs[0].name} scored the same units against different truths or patients"
                f"{_where(run, runs[0])}. One of them is from another version of the data: evaluate both again"
            )
    codes = first.clusters(cluster)
    work = len(codes) * len(common) * len(runs) * resamples
    counts = resample(int(codes.max()) + 1, resamples, seed, engine=engine_for(work))
    labels = label_infos(first, codes, counts, members(measure, common, groups))
    return Board(
        frame=first,
        counts=counts,
        clusters=counts.units,
        labels=labels,
        scored={run.job: Scored(run=run, areas=_areas(frames[run.job], codes, counts, labels)) for run in runs},
        left_out=tuple(sorted({label for labels_ in every for label in labels_} - set(common))),
    )


def _areas(frame: Predictions, cluster: np.ndarray, counts: Counts, labels: Sequence[LabelInfo]) -> dict[str | None, Area]:
    areas: dict[str | None, Area] = {}
    for column, label in enumerate(labels):
        known = frame.truth[:, column] >= 0
        truth, score, unit = frame.truth[known, column], frame.score[known, column], cluster[known]
        # One sort serves the area, its variance and its resamples.
        ranked = Ranked.of(truth, score)
        placed = placements(truth, score, ranked)
        if placed is None:
            continue
        moved = influence(truth, score, unit, counts.units, placed)
        areas[label.name] = Area(
            value=placed.auroc,
            influence=None if moved is None else moved.values,
            replicates=auroc_replicates(truth, score, unit, counts, ranked),
            constant=bool(score.min() == score.max()),
        )
    inside = [areas[label.name] for label in labels if label.in_measure]
    if inside:
        areas[None] = _mean(inside)
    return areas


def _mean(areas: Sequence[Area]) -> Area:
    """Average over findings; a replicate averages those in which both classes were drawn, which are the same for every run."""
    drawn = np.stack([area.replicates for area in areas])
    valid = np.isfinite(drawn)
    with np.errstate(invalid="ignore"):
        replicates = np.where(valid, drawn, 0.0).sum(axis=0) / valid.sum(axis=0)
    return Area(
        value=float(np.mean([area.value for area in areas])),
        influence=np.mean([area.influence for area in areas if area.influence is not None], axis=0),
        replicates=replicates,
        constant=any(area.constant for area in areas),
    )
