"""All pairs of arms at once: the only way in which the best of several arms may be set against the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.report import cells
from orchestrator.report.board import Board
from orchestrator.report.cells import Group, Planned
from orchestrator.report.differences import difference
from orchestrator.report.parts import Part
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.simultaneous import covariance_of_arms, covariance_of_pairs, min_p, pairs
from orchestrator.report.study.values import PairDifference
from orchestrator.report.values import Difference

#: Fewer arms have no pair besides the declared ones.
FEWEST_ARMS = 3


def all_pairs(part: Part, confidence: float) -> list[PairDifference]:
    """Compare every two arms that have replicates, floors aside, with p values adjusted by max-t over all pairs and numbers of labels.

    How comparisons of one number of labels depend on each other comes from the data. Those of two numbers of labels are taken as
    independent, which for two-sided statistics is never too small an adjustment (Royen 2014).
    """
    board, playing = part.board, {arm.key for arm in part.test_set.arms if not arm.floor}
    if board is None:
        return []
    found: list[Difference] = []
    blocks: list[np.ndarray] = []
    for size in part.test_set.sizes:
        sides = [one for one in part.planned if one.size == size.key and one.arm in playing and _scored(one, board)]
        if len(sides) < FEWEST_ARMS:
            continue
        tested, block = _at_one_size(sides, board, part, confidence)
        found += tested
        blocks += [block] if len(block) else []
    if not found:
        return []
    adjusted = min_p(np.array([one.p for one in found]), _block_diagonal(blocks)).p_adjusted
    # No adjustment is below the p value itself: the resampled one may be, by chance.
    return [_plain(one, max(one.p or 0.0, p), len(found)) for one, p in zip(found, adjusted, strict=True)]


def _scored(planned: Planned, board: Board) -> bool:
    known = [one for one in planned.present(board) if None in one.areas and one.areas[None].influence is not None]
    return len(known) > 1


def _at_one_size(sides: Sequence[Planned], board: Board, part: Part, confidence: float) -> tuple[list[Difference], np.ndarray]:
    options = {"measure": part.test_set.measure, "cluster": part.test_set.cluster, "confidence": confidence}
    wanted = pairs(len(sides))
    every = [difference((sides[i], sides[j]), board, None, contrast="all pairs", **options) for i, j in wanted]
    kept = [index for index, one in enumerate(every) if one.p is not None and Status.ONE_RUN not in one.status]
    groups = [cells.replicate_groups([one for one in side.present(board) if None in one.areas]) for side in sides]
    ordered, matched = in_one_order(groups)
    stacked = [cells.stack(one, None) for one in ordered]
    of_arms = covariance_of_arms([values for values, _, _ in stacked], [moved for _, moved, _ in stacked], matched=matched)
    return [every[index] for index in kept], covariance_of_pairs(of_arms, [wanted[index] for index in kept])


def in_one_order(groups: Sequence[list[Group]]) -> tuple[list[list[Group]], bool]:
    """Put the draws of all arms in one order where every arm has the same ones; say whether it has."""
    draws = [[group.members[0].run.draw.sha256 if len(group.members) == 1 else None for group in side] for side in groups]
    same = all(None not in side and len(set(side)) == len(side) and set(side) == set(draws[0]) for side in draws)
    if not same:
        return list(groups), False
    return [
        [side[index] for index in sorted(range(len(side)), key=lambda at: str(own[at]))] for side, own in zip(groups, draws, strict=True)
    ], True


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    total = sum(len(block) for block in blocks)
    joined, start = np.zeros((total, total)), 0
    for block in blocks:
        joined[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return joined


def _plain(one: Difference, adjusted: float, family: int) -> PairDifference:
    return PairDifference(
        test_set=one.test_set,
        arm=one.arm,
        baseline=one.baseline,
        size=one.size,
        measure=one.measure,
        estimate=one.estimate,
        low=one.low,
        high=one.high,
        p=one.p,
        p_adjusted=adjusted,
        family=family,
        estimand=one.estimand,
        method=one.method,
        matching=one.matching,
        status=one.status,
        n_replicates=one.n_replicates,
    )
