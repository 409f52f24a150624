"""Operating points of a test set: thresholds from validation, applied to the test rows of the run that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned
from orchestrator.report.diagnostics.values import OperatingPoint, Share
from orchestrator.report.frames import Frame
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.estimate import FEW, Status
from orchestrator.report.stats.operating import (
    AGREEMENT,
    F1,
    F1_ON_TEST,
    PROPORTIONS,
    RULES,
    Proportion,
    mean_proportion,
    parts_at,
    proportion,
)
from orchestrator.report.values import LabelInfo, TestSet

#: The rule of a segmentation: a structure counts as found when anything was drawn.
MASK = "mask"
#: What the mean over findings stands under.
MEAN = "macro"
#: Rows of one run that are called: (truth, called), each (cases,).
Calls = tuple[np.ndarray, np.ndarray]


def operating_points(planned: Sequence[Planned], test_set: TestSet, board: Board, confidence: float) -> Iterator[OperatingPoint]:
    """Yield the points of every cell, finding and rule for which a run has a threshold, then means over findings of F1 and accuracy."""
    for one in planned:
        scored = one.present(board)
        found: list[OperatingPoint] = []
        for label in test_set.labels:
            for rule in (MASK,) if isinstance(board.frame, Masks) else (*RULES, F1_ON_TEST):
                runs = [run for run in scored if rule == MASK or run.run.threshold(label.name, rule) is not None]
                if runs:
                    found.append(_point(one, runs, label, rule, test_set, board, confidence))
        yield from found
        for rule in (F1, F1_ON_TEST):
            several = [point for point in found if point.rule == rule and has_f1(point)]
            if len(several) > 1:
                yield _mean(several, scored, rule, board, confidence)


def _point(
    planned: Planned, runs: Sequence[Scored], label: LabelInfo, rule: str, test_set: TestSet, board: Board, confidence: float
) -> OperatingPoint:
    column = board.frame.labels.index(label.name)
    known = board.frame.truth[:, column] >= 0
    limits = [run.run.threshold(label.name, rule) for run in runs]
    calls = [_called(run.frame, column, known, limit) for run, limit in zip(runs, limits, strict=True)]
    thresholds = [limit for limit in limits if limit is not None]
    counts = [run.run.validation_counts.get(label.name) for run in runs]
    said = [count for count in counts if count is not None and rule != F1_ON_TEST]
    return OperatingPoint(
        test_set=test_set.key,
        arm=planned.arm,
        size=planned.size,
        label=label.name,
        rule=rule,
        source="test" if rule == F1_ON_TEST else "validation" if thresholds else "none",
        threshold=float(np.mean(thresholds)) if thresholds else None,
        threshold_low=min(thresholds, default=None),
        threshold_high=max(thresholds, default=None),
        n_validation_positive=float(np.mean([count[0] for count in said])) if said else None,
        n_validation_negative=float(np.mean([count[1] for count in said])) if said else None,
        n_runs=len(runs),
        estimand=f"these_models_new_{test_set.cluster}",
        method="wilson_effective",
        shares=tuple(_shares(calls, board.cluster[known], board.clusters, confidence, judged_by(rule))),
        status=_status(said, missing=len(runs) < len(planned.runs), on_test=rule == F1_ON_TEST),
    )


def _mean(several: Sequence[OperatingPoint], scored: Sequence[Scored], rule: str, board: Board, confidence: float) -> OperatingPoint:
    """Average F1 and accuracy over the findings that have both."""
    parts: dict[str, list[tuple[list[Calls], np.ndarray]]] = {name: [] for name in AGREEMENT}
    for point in several:
        column = board.frame.labels.index(point.label)
        known = board.frame.truth[:, column] >= 0
        limits = [(run, run.run.threshold(point.label, rule)) for run in scored]
        calls = [_called(run.frame, column, known, limit) for run, limit in limits if limit is not None]
        for name, into in parts.items():
            into.append(([parts_at(*one)[name] for one in calls], board.cluster[known]))
    shares = tuple(_share(name, mean_proportion(into, board.clusters, confidence)) for name, into in parts.items())
    status = tuple(dict.fromkeys(word for point in several for word in point.status))
    return replace(
        several[0],
        label=MEAN,
        threshold=None,
        threshold_low=None,
        threshold_high=None,
        n_validation_positive=None,
        n_validation_negative=None,
        n_runs=max(point.n_runs for point in several),
        shares=shares,
        status=status,
    )


def has_f1(point: OperatingPoint) -> bool:
    """Say whether a point has an F1, and so a part in the mean over findings."""
    return any(share.name == F1 and share.estimate is not None for share in point.shares)


def judged_by(rule: str) -> tuple[str, ...]:
    """Return the proportions that a rule's threshold is judged by."""
    return AGREEMENT if rule in (F1, F1_ON_TEST) else PROPORTIONS


def _called(frame: Frame, column: int, known: np.ndarray, limit: float | None) -> Calls:
    truth = frame.truth[known, column] == 1
    if isinstance(frame, Masks):
        return truth, frame.predicted[known, column] > 0
    if not isinstance(frame, Predictions) or limit is None:
        raise TypeError("a call needs masks, or scores and a threshold")
    return truth, frame.score[known, column] >= limit


def _shares(calls: Sequence[Calls], cluster: np.ndarray, clusters: int, confidence: float, names: Sequence[str]) -> Iterator[Share]:
    parts = [parts_at(*one) for one in calls]
    # Where nobody has the finding, F1 is 0 or 0/0 whatever a model does, and says nothing of it.
    some = any(truth.any() for truth, _ in calls)
    for name in names:
        there = [one[name] for one in parts] if some or name != F1 else []
        yield _share(name, proportion(there, cluster, clusters, confidence, halves=name == F1))


def _share(name: str, found: Proportion | None) -> Share:
    if found is None:
        return Share(name=name, estimate=None, low=None, high=None, n=0.0, n_effective=0.0, n_runs=0, status=(Status.NOT_ESTIMABLE,))
    status = (Status.NOT_ESTIMABLE,) if found.low is None else (Status.FEW_CASES,) if found.n_effective < FEW else ()
    return Share(
        name=name,
        estimate=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        n_effective=found.n_effective,
        n_runs=found.runs,
        status=tuple(str(word) for word in status),
    )


def _status(validation: Sequence[tuple[int, int]], *, missing: bool, on_test: bool) -> tuple[str, ...]:
    few = any(min(counts) < FEW for counts in validation)
    said = ((Status.MISSING_RUNS, missing), (Status.FEW_VALIDATION, few), (Status.CHOSEN_ON_TEST, on_test))
    return tuple(str(word) for word, holds in said if holds)
