"""Arms whose cases were held out fold by fold: pooled over folds, with the range that chance gives instead of an interval."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.cells import Planned
from orchestrator.report.measures import title_of
from orchestrator.report.predictions import Predictions
from orchestrator.report.results import Run
from orchestrator.report.stats.estimate import FEW, Status
from orchestrator.report.stats.folds import Held, chance, within_folds
from orchestrator.report.values import FoldArea, LabelInfo


def check_same_folds(planned: Sequence[Planned], title: str) -> None:
    """Refuse arms that held out different cases in the same fold. Raises ReportError naming two runs."""
    first: dict[tuple[str, str], tuple[Run, str]] = {}
    for one in planned:
        for run in one.runs:
            if run.predictions is None:
                continue
            key, digest = (one.size, str(run.place.fold)), run.predictions.frame_digest()
            known = first.setdefault(key, (run, digest))
            if known[1] != digest:
                raise ReportError(
                    f"test set {title}: {known[0].name} and {run.name} held out different cases in fold {run.place.fold}; "
                    "they cannot be compared. Make the folds again with one seed for all arms"
                )


def held_out(runs: Sequence[Run], label: str) -> Held:
    """Gather the held-out scores of a finding over folds."""
    parts = [
        (str(run.place.fold), one, one.labels.index(label)) for run in runs if (one := run.scores()) is not None and label in one.labels
    ]
    known = [one.truth[:, column] >= 0 for _, one, column in parts]
    return Held(
        fold=np.concatenate([np.full(int(rows.sum()), fold) for (fold, _, _), rows in zip(parts, known, strict=True)]),
        patient=np.concatenate([one.patients[rows].astype(str) for (_, one, _), rows in zip(parts, known, strict=True)]),
        truth=np.concatenate([one.truth[rows, column] for (_, one, column), rows in zip(parts, known, strict=True)]),
        score=np.concatenate([one.score[rows, column] for (_, one, column), rows in zip(parts, known, strict=True)]),
    )


def fold_area(planned: Planned, label: str, confidence: float) -> FoldArea:
    """Return an arm's area within folds and where chance would put it."""
    present = sorted((run for run in planned.runs if run.predictions is not None), key=lambda run: str(run.place.fold))
    missing = tuple(sorted((run.place.replicate for run in planned.runs if run.predictions is None), key=lambda name: (len(name), name)))
    found = within_folds(held_out(present, label)) if present else None
    range_of = chance(held_out(present, label), found[0], confidence) if found else None
    status = [*([Status.MISSING_RUNS] if missing else []), *([] if found else [Status.NOT_ESTIMABLE])]
    if range_of is not None and min(range_of.positives, range_of.negatives) < FEW:
        status.append(Status.FEW_POSITIVES)
    return FoldArea(
        test_set=planned.test_set,
        arm=planned.arm,
        label=label,
        estimate=found[0] if found else None,
        chance_low=range_of.low if range_of else None,
        chance_high=range_of.high if range_of else None,
        chance_p=range_of.p if range_of else None,
        assignments=range_of.assignments if range_of else 0,
        exact=range_of.exact if range_of else False,
        n_folds=found[1] if found else 0,
        n_planned=len(planned.runs),
        n_positive_patients=range_of.positives if range_of else 0,
        n_negative_patients=range_of.negatives if range_of else 0,
        status=tuple(str(word) for word in status),
        missing=missing,
    )


def pooled_labels(planned: Sequence[Planned]) -> tuple[LabelInfo, ...]:
    """Count what all folds together hold of each finding, each held-out case once."""
    frames = [frame for one in planned for run in one.runs if (frame := run.scores()) is not None]
    return tuple(_pooled(frames, label) for label in sorted({label for frame in frames for label in frame.labels}))


def _pooled(frames: Sequence[Predictions], label: str) -> LabelInfo:
    cases: dict[str, tuple[str, int]] = {}
    for frame in frames:
        if label in frame.labels:
            column = frame.truth[:, frame.labels.index(label)]
            cases.update(
                {
                    str(unit): (str(who), int(truth))
                    for unit, who, truth in zip(frame.units, frame.patients, column, strict=True)
                    if truth >= 0
                }
            )
    positive = [who for who, truth in cases.values() if truth == 1]
    negative = [who for who, truth in cases.values() if truth == 0]
    fewest = min(len(positive), len(negative), len(set(positive)), len(set(negative)))
    status: tuple[str, ...] = () if fewest >= FEW else (str(Status.FEW_POSITIVES if fewest else Status.NOT_ESTIMABLE),)
    return LabelInfo(
        name=label,
        title=title_of(label),
        n_positive=len(positive),
        n_negative=len(negative),
        n_positive_patients=len(set(positive)),
        n_negative_patients=len(set(negative)),
        valid_share=1.0,
        in_measure=fewest > 0,
        status=status,
    )


def pooled_digest(planned: Sequence[Planned]) -> tuple[str, int, int]:
    """Return a digest of everything held out, and how many units and patients that is."""
    frames = [frame for one in planned for run in one.runs if (frame := run.scores()) is not None]
    units = sorted({str(unit) for frame in frames for unit in frame.units})
    patients = {str(who) for frame in frames for who in frame.patients}
    return hashlib.sha256("\n".join(units).encode()).hexdigest(), len(units), len(patients)
