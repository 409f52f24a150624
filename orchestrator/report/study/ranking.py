"""How stable the order of arms is when draws and patients are drawn again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.report import cells
from orchestrator.report.board import Board
from orchestrator.report.cells import Group, Planned
from orchestrator.report.parts import Part
from orchestrator.report.stats.bootstrap import mean_over_draws, of_side
from orchestrator.report.stats.ranks import rank_spreads
from orchestrator.report.study.pairs import FEWEST_ARMS, in_one_order
from orchestrator.report.study.values import ArmRank


def arm_ranks(part: Part, confidence: float) -> list[ArmRank]:
    """Rank the arms of every number of labels over the joint bootstrap of draws and patients, floors aside.

    Arms with replicates are ranked where there are three and more, else the single runs, over patients alone. Arms whose draws are the same
    are redrawn together, others each for itself.
    """
    board = part.board
    if board is None:
        return []
    playing = {arm.key for arm in part.test_set.arms if not arm.floor}
    found: list[ArmRank] = []
    for size in part.test_set.sizes:
        sides = [one for one in part.planned if one.size == size.key and one.arm in playing]
        groups = {one.arm: _groups(one, board) for one in sides}
        replicated = [one for one in sides if len(groups[one.arm]) > 1]
        alone = [one for one in sides if len(groups[one.arm]) == 1]
        ranked = replicated if len(replicated) >= FEWEST_ARMS else alone
        if len(ranked) >= FEWEST_ARMS:
            found += _at_one_size(ranked, [groups[one.arm] for one in ranked], board, part, confidence)
    return found


def _groups(planned: Planned, board: Board) -> list[Group]:
    return cells.replicate_groups([one for one in planned.present(board) if None in one.areas])


def _at_one_size(sides: Sequence[Planned], groups: Sequence[list[Group]], board: Board, part: Part, confidence: float) -> list[ArmRank]:
    ordered, matched = in_one_order(groups)
    better = 1.0 if part.test_set.higher_is_better else -1.0
    spreads = rank_spreads(
        better
        * np.stack(
            [
                mean_over_draws(
                    np.stack([group.replicates(None) for group in side]),
                    # Arms that do not share their draws are not redrawn together.
                    board.counts if matched else of_side(board.counts, index),
                    redraw=True,
                )
                for index, side in enumerate(ordered)
            ]
        ),
        confidence,
    )
    means = better * np.array([np.mean([group.value(None) for group in side]) for side in ordered])
    if spreads is None:
        return []
    everyone = [each for side in ordered for group in side for each in group.members]
    many = max(ordered, key=len)
    word = cells.replicate_word([each for group in many for each in group.members], many)
    cluster = part.test_set.cluster
    estimand = f"new_{word}_new_{cluster}" if len(many) > 1 else f"these_models_new_{cluster}"
    given = "".join(f"_given_{what}" for what in cells.given(everyone)) if len(many) > 1 else ""
    return [
        ArmRank(
            test_set=part.test_set.key,
            arm=side.arm,
            size=side.size,
            measure=part.test_set.measure,
            rank=1 + int((means > mean).sum()),
            mean_rank=spread.mean,
            low=spread.low,
            high=spread.high,
            first=spread.shares[0],
            shares=spread.shares,
            estimand=estimand + given,
            matched=matched,
            n_replicates=len(ordered[index]),
        )
        for index, (side, mean, spread) in enumerate(zip(sides, means, spreads, strict=True))
    ]
