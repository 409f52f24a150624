"""Where the width of an interval comes from, what more draws or patients would buy, and which draws are worth adding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.report import cells
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned
from orchestrator.report.differences import pair
from orchestrator.report.parts import Part
from orchestrator.report.stats import forecast
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.forecast import Scale, Split
from orchestrator.report.study.values import Forecast, MoreDraws, VarianceSplit
from orchestrator.report.values import Cell, Difference

#: Draws more than there are, and patients as a multiple, that are forecast.
MORE, TIMES = (2, 5), (2.0,)
#: The size that leaves nothing to draw, and how many runs it should have.
ALL, SEEDS_OF_ALL = "fraction=1", 3
#: With one of these an interval does not rest on the analysis of draws and patients.
_ELSEWHERE = frozenset({Status.AT_BOUNDARY, Status.IDENTICAL, Status.NOT_ESTIMABLE, Status.ONE_RUN})


def variance_splits(part: Part, confidence: float) -> list[VarianceSplit]:
    """Split the variance of every cell and declared difference of a test set that has replicates."""
    if part.board is None:
        return []
    by_place = {(one.arm, one.size): one for one in part.planned}
    made = [_of_cell(one, by_place[one.arm, one.size], part.board, confidence) for one in part.cells]
    made += [
        _of_difference(one, (by_place[one.arm, one.size], by_place[one.baseline, one.size]), part.board, confidence)
        for one in part.differences
    ]
    return [one for one in made if one is not None]


def _present(planned: Planned, board: Board) -> list[Scored]:
    return [one for one in planned.present(board) if None in one.areas]


def _of_cell(one: Cell, planned: Planned, board: Board, confidence: float) -> VarianceSplit | None:
    if one.estimate is None or _ELSEWHERE & set(one.status):
        return None
    values, influence, _ = cells.stack(cells.replicate_groups(_present(planned, board)), None)
    found = forecast.split(values, influence)
    place = {"arm": one.arm, "baseline": None, "contrast": None, "size": one.size}
    scale = Scale(value=one.estimate, confidence=confidence, on_logit=board.kind.scale.logit)
    return found and _described(found, scale, one, place)


def _of_difference(one: Difference, sides: tuple[Planned, Planned], board: Board, confidence: float) -> VarianceSplit | None:
    if one.estimate is None or _ELSEWHERE & set(one.status):
        return None
    paired = pair(*(_present(side, board) for side in sides))
    a, b = cells.stack(paired.a, None), cells.stack(paired.b, None)
    found = forecast.split(a[0] - b[0], a[1] - b[1]) if paired.is_paired else forecast.split_nested(a[0], a[1], b[0], b[1])
    place = {"arm": one.arm, "baseline": one.baseline, "contrast": one.contrast, "size": one.size}
    return found and _described(found, Scale(value=one.estimate, confidence=confidence, on_logit=False), one, place)


def _described(found: Split, scale: Scale, one: Cell | Difference, place: dict[str, Any]) -> VarianceSplit:
    draws = min(side.draws for side in found.sides)
    wanted = [(more, 1.0) for more in MORE] + [(0, times) for times in TIMES]
    return VarianceSplit(
        **place,
        test_set=one.test_set,
        measure=one.measure,
        estimand=one.estimand,
        n_replicates=draws,
        draw=found.draw,
        patient=found.patient,
        interaction=found.interaction,
        half_width=forecast.half_width(found, scale),
        limit=forecast.limit(found, scale),
        forecasts=tuple(
            Forecast(replicates=draws + more, patients=times, half_width=forecast.half_width(found, scale, more=more, patients=times))
            for more, times in wanted
        ),
        enough=draws + forecast.enough_draws(found, scale),
    )


def more_draws(splits: Sequence[VarianceSplit], parts: Sequence[Part]) -> MoreDraws | None:
    """Return how many draws of each size are worth having; None where those that there are suffice, or where draws are not what differs.

    Declared differences decide where there are any, else cells do. An incomplete size is completed first; draws that are paired with
    pretrainings are not torn from them, and draws of random sizes are never raised. With all labels, where one run says nothing of a
    method, there should be three.
    """
    deciding = [one for one in splits if one.contrast is not None] or list(splits)
    wanted: dict[str, int] = {}
    planned: dict[str, int] = {}
    # Draws of random sizes come from one stream through all of them: one more would make every one anew.
    torn = {size.key for part in parts for size in part.test_set.sizes if size.drawn_range is not None}
    for cell in (cell for part in parts for cell in part.cells if "=" in cell.size):
        planned[cell.size] = max(planned.get(cell.size, 0), cell.n_planned)
        if cell.missing or cell.n_pretrainings > 1:
            torn.add(cell.size)
        if cell.size == ALL and cell.n_planned == 1:
            wanted[cell.size] = SEEDS_OF_ALL
    for one in deciding:
        if one.estimand.startswith("new_draws"):
            wanted[one.size] = max(wanted.get(one.size, 0), one.enough)
    raised = {size: count for size, count in wanted.items() if size not in torn and count > planned.get(size, count)}
    if not raised:
        return None
    ordered = sorted(raised, key=lambda size: float(size.partition("=")[2]))
    option = ",".join(f"{size.partition('=')[2]}={raised[size]}" for size in ordered)
    said = "; ".join(f"{raised[size]} of {size.partition('=')[2]} instead of {planned[size]}" for size in ordered)
    return MoreDraws(option=option, why=f"more draws are worth having, {said}")
