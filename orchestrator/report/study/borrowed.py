"""The interval that a lone run would have if draws spread as they do with fewer labels. An assumption: it stands beside, never in place."""

from __future__ import annotations

import math

from orchestrator.report import cells
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned
from orchestrator.report.differences import pair
from orchestrator.report.parts import Part
from orchestrator.report.sizes import size_rank
from orchestrator.report.stats import forecast, intervals
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.forecast import Split
from orchestrator.report.stats.multireader import crossed
from orchestrator.report.study.values import Borrowed
from orchestrator.report.values import Cell, Difference

#: With one of these a case variance is not what an interval may rest on.
_ELSEWHERE = frozenset({Status.AT_BOUNDARY, Status.IDENTICAL, Status.NOT_ESTIMABLE})
_Lender = tuple[str, Split, int, str]


def borrowed_intervals(part: Part, confidence: float) -> list[Borrowed]:
    """Return the borrowed interval of every lone run, and of every declared difference of two, that has a smaller size to borrow from."""
    if part.board is None or part.board.kind.scale.resampled:
        return []
    places = {(one.arm, one.size): one for one in part.planned}
    made = [_of_cell(one, part, places, part.board, confidence) for one in part.cells]
    made += [_of_difference(one, part, places, part.board, confidence) for one in part.differences]
    return [one for one in made if one is not None]


def _lone(one: Cell | Difference) -> bool:
    return one.estimate is not None and Status.ONE_RUN in one.status and not _ELSEWHERE & set(one.status)


def _present(planned: Planned, board: Board) -> list[Scored]:
    return [one for one in planned.present(board) if None in one.areas and one.areas[None].influence is not None]


def _of_cell(one: Cell, part: Part, places: dict[tuple[str, str], Planned], board: Board, confidence: float) -> Borrowed | None:
    others = [each for each in part.cells if each.arm == one.arm and _lends(each, one.size)]
    if not _lone(one) or not others or one.n_replicates != 1:
        return None
    lender = max(others, key=lambda each: size_rank(each.size))
    found = forecast.split(*cells.stack(cells.replicate_groups(_present(places[lender.arm, lender.size], board)), None)[:2])
    own = cells.stack(cells.replicate_groups(_present(places[one.arm, one.size], board)), None)
    if found is None:
        return None
    variance, df = forecast.borrowed(crossed(own[0], own[1]).var_case, found)
    return _described(one, (variance, df), lender, board, confidence)


def _of_difference(one: Difference, part: Part, places: dict[tuple[str, str], Planned], board: Board, confidence: float) -> Borrowed | None:
    others = [
        each
        for each in part.differences
        if (each.arm, each.baseline, each.contrast) == (one.arm, one.baseline, one.contrast) and _lends(each, one.size)
    ]
    if not _lone(one) or not others:
        return None
    own = pair(*(_present(places[arm, one.size], board) for arm in (one.arm, one.baseline)))
    if len(own.a) != 1 or len(own.b) != 1:
        return None
    lender = max(others, key=lambda each: size_rank(each.size))
    paired = pair(*(_present(places[arm, lender.size], board) for arm in (one.arm, one.baseline)))
    a, b = cells.stack(paired.a, None), cells.stack(paired.b, None)
    found = forecast.split(a[0] - b[0], a[1] - b[1]) if paired.is_paired else forecast.split_nested(a[0], a[1], b[0], b[1])
    if found is None:
        return None
    left, right = cells.stack(own.a, None), cells.stack(own.b, None)
    return _described(one, forecast.borrowed(crossed(left[0] - right[0], left[1] - right[1]).var_case, found), lender, board, confidence)


def _lends(one: Cell | Difference, to: str) -> bool:
    """Tell whether a size has replicates and fewer labels, so that its spread may be borrowed."""
    smaller = size_rank(one.size) < size_rank(to)
    return smaller and one.n_replicates > 1 and Status.ONE_RUN not in one.status and not _ELSEWHERE & set(one.status)


def _described(
    one: Cell | Difference, found: tuple[float, float], lender: Cell | Difference, board: Board, confidence: float
) -> Borrowed | None:
    scale, (variance, df) = board.kind.scale, found
    df = min(df, board.clusters - 1) if scale.few_clusters else df
    se, estimate = math.sqrt(max(variance, 0.0)), one.estimate
    if estimate is None or se == 0.0:
        return None
    is_difference = isinstance(one, Difference)
    if is_difference:
        low, high = intervals.raw(estimate, se, df, confidence)
    elif scale.logit:
        low, high = intervals.on_logit(estimate, se, df, confidence)
    else:
        low, high = scale.inside(*intervals.raw(estimate, se, df, confidence))
    return Borrowed(
        test_set=one.test_set,
        arm=one.arm,
        baseline=one.baseline if is_difference else None,
        contrast=one.contrast if is_difference else None,
        size=one.size,
        measure=one.measure,
        estimate=estimate,
        low=low,
        high=high,
        se=se,
        df=None if math.isinf(df) else df,
        estimand=f"{lender.estimand}_given_borrowed_spread",
        from_size=lender.size,
        n_replicates=lender.n_replicates,
        own_low=one.low,
        own_high=one.high,
    )
