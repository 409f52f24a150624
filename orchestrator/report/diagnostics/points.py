"""Operating points of a test set: thresholds from validation, applied to the test rows of the run that they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned
from orchestrator.report.diagnostics.values import OperatingPoint, Share
from orchestrator.report.frames import Frame
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.estimate import FEW, Status
from orchestrator.report.stats.operating import PROPORTIONS, RULES, parts_at, proportion
from orchestrator.report.values import LabelInfo, TestSet

#: The rule of a segmentation: a structure counts as found when anything was drawn.
MASK = "mask"
#: Rows of one run that are called: (truth, called), each (cases,).
Calls = tuple[np.ndarray, np.ndarray]


def operating_points(planned: Sequence[Planned], test_set: TestSet, board: Board, confidence: float) -> Iterator[OperatingPoint]:
    """Yield the points of every cell, finding and rule for which a run has a threshold."""
    for one in planned:
        scored = one.present(board)
        for label in test_set.labels:
            for rule in (MASK,) if isinstance(board.frame, Masks) else RULES:
                runs = [run for run in scored if rule == MASK or run.run.threshold(label.name, rule) is not None]
                if runs:
                    yield _point(one, runs, label, rule, test_set, board, confidence)


def _point(
    planned: Planned, runs: Sequence[Scored], label: LabelInfo, rule: str, test_set: TestSet, board: Board, confidence: float
) -> OperatingPoint:
    column = board.frame.labels.index(label.name)
    known = board.frame.truth[:, column] >= 0
    limits = [run.run.threshold(label.name, rule) for run in runs]
    calls = [_called(run.frame, column, known, limit) for run, limit in zip(runs, limits, strict=True)]
    thresholds = [limit for limit in limits if limit is not None]
    counts = [run.run.validation_counts.get(label.name) for run in runs]
    said = [count for count in counts if count is not None]
    return OperatingPoint(
        test_set=test_set.key,
        arm=planned.arm,
        size=planned.size,
        label=label.name,
        rule=rule,
        source="validation" if thresholds else "none",
        threshold=float(np.mean(thresholds)) if thresholds else None,
        threshold_low=min(thresholds, default=None),
        threshold_high=max(thresholds, default=None),
        n_validation_positive=float(np.mean([count[0] for count in said])) if said else None,
        n_validation_negative=float(np.mean([count[1] for count in said])) if said else None,
        n_runs=len(runs),
        estimand=f"these_models_new_{test_set.cluster}",
        method="wilson_effective",
        shares=tuple(_shares(calls, board.cluster[known], board.clusters, confidence)),
        status=_status(said, missing=len(runs) < len(planned.runs)),
    )


def _called(frame: Frame, column: int, known: np.ndarray, limit: float | None) -> Calls:
    truth = frame.truth[known, column] == 1
    if isinstance(frame, Masks):
        return truth, frame.predicted[known, column] > 0
    if not isinstance(frame, Predictions) or limit is None:
        raise TypeError("a call needs masks, or scores and a threshold")
    return truth, frame.score[known, column] >= limit


def _shares(calls: Sequence[Calls], cluster: np.ndarray, clusters: int, confidence: float) -> Iterator[Share]:
    parts = [parts_at(*one) for one in calls]
    for name in PROPORTIONS:
        found = proportion([one[name] for one in parts], cluster, clusters, confidence)
        if found is None:
            yield Share(name=name, estimate=None, low=None, high=None, n=0.0, n_effective=0.0, n_runs=0, status=(Status.NOT_ESTIMABLE,))
            continue
        status = (Status.NOT_ESTIMABLE,) if found.low is None else (Status.FEW_CASES,) if found.n_effective < FEW else ()
        yield Share(
            name=name,
            estimate=found.value,
            low=found.low,
            high=found.high,
            n=found.n,
            n_effective=found.n_effective,
            n_runs=found.runs,
            status=tuple(str(word) for word in status),
        )


def _status(validation: Sequence[tuple[int, int]], *, missing: bool) -> tuple[str, ...]:
    few = any(min(counts) < FEW for counts in validation)
    return tuple(str(word) for word in (*([Status.MISSING_RUNS] if missing else []), *([Status.FEW_VALIDATION] if few else [])))
