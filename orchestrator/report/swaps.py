"""Two single models on the same patients: the exchange test beside influence values, for declared differences of one run a side."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.report.board import Board, Scored
from orchestrator.report.parts import Part
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.swaps import Scores, swap_tests
from orchestrator.report.values import Difference, SwapTest


def swaps(part: Part) -> list[SwapTest]:
    """Exchange the two models of each declared difference of one run a side, patient by patient; areas under the ROC curve alone.

    The first row of a difference is its measure, the others are the findings that the measure averages.
    """
    board = part.board
    if board is None or board.kind.name != "auroc":
        return []
    findings = [index for index, label in enumerate(board.labels) if label.in_measure]
    analytic = {(_place(one), one.label): _analytic(one) for one in (*part.differences, *part.label_differences)}
    planned = {(one.arm, one.size): one for one in part.planned}
    found: list[SwapTest] = []
    for one in {_place(each): each for each in part.differences}.values():
        sides = [planned[arm, one.size].present(board) for arm in (one.arm, one.baseline)]
        if not findings or any(len(side) != 1 for side in sides):
            continue
        mean, each = swap_tests([_scores(sides[0][0], sides[1][0], column, board) for column in findings], board.clusters)
        names = [None, *(board.labels[index].name for index in findings)] if len(findings) > 1 else [None]
        found += [
            SwapTest(
                test_set=one.test_set,
                arm=one.arm,
                baseline=one.baseline,
                size=one.size,
                measure=one.measure if name is None else f"auroc/{name}",
                label=name,
                n=test.n,
                statistic=test.statistic,
                p=test.p,
                smallest_p=test.smallest_p,
                exact=test.exact,
                assignments=test.assignments,
                analytic_p=analytic.get((_place(one), name)),
                status=tuple(str(word) for word in test.status),
            )
            for name, test in zip(names, (mean, *each), strict=False)
        ]
    return found


def _scores(first: Scored, second: Scored, column: int, board: Board) -> Scores:
    frames = [one.frame for one in (first, second)]
    truth = board.frame.truth[:, column]
    known = truth >= 0
    scores = [frame.score[known, column] for frame in frames if isinstance(frame, Predictions)]
    return Scores(truth=truth[known], first=scores[0], second=scores[1], cluster=board.cluster[known])


def _place(one: Difference) -> tuple[str, str, str]:
    return one.arm, one.baseline, one.size


def _analytic(one: Difference) -> float | None:
    made: Iterable[float | None] = (each.p for each in one.estimates if each.method == "influence")
    return next(iter(made), None)
