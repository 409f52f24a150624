"""`report.groups`: the best arm of one group against the best of another, chosen on validation in every replicate.

A replicate is taken through the whole procedure: its labelled patients train every arm of the group, validation chooses one of them, and
that one is scored. What the choice owes to luck differs between replicates, so it is inside the interval, as a pick of its own draw is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from orchestrator.arms import Arm, members
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Planned
from orchestrator.report.design import NO_REPLICATE
from orchestrator.report.differences import answer_pair, pair, points_of
from orchestrator.report.inputs import Inputs
from orchestrator.report.parts import Part
from orchestrator.report.results import Draw
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.multiplicity import holm
from orchestrator.report.study.values import ChainPoint, GroupChoice, GroupDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What validation chose of one group with one number of labels."""

    group: str
    n_arms: int
    scored: tuple[Scored, ...] = ()
    choices: tuple[GroupChoice, ...] = ()
    left_out: tuple[str, ...] = ()
    chosen_by: str = ""
    n_val_patients: int | None = None
    #: Why nothing could be chosen; empty when it could.
    reason: str = ""


def group_differences(part: Part, inputs: Inputs) -> list[GroupDifference]:
    """Compare every two groups on one test set; p values are adjusted by Holm over the pairs of groups and numbers of labels."""
    board, groups = part.board, inputs.report.groups
    arms = [Arm(phase=arm.phase, labels=arm.labels) for arm in part.test_set.arms]
    inside = {name: [part.test_set.arms[index].key for index in members(arms, sets)] for name, sets in groups.items()}
    if board is None:
        return []
    found: list[GroupDifference] = []
    # By name, because a plan that is read back has forgotten in which order groups were written.
    for one, other in combinations(sorted(groups), 2):
        for size in part.test_set.sizes:
            cells = [[each for each in part.planned if each.size == size.key and each.arm in inside[name]] for name in (one, other)]
            if all(cells):
                sides = (best_of(one, cells[0], board), best_of(other, cells[1], board))
                found.append(_compared(sides, size.key, part, board, inputs.report.confidence))
    return _adjusted(found)


def silent_groups(part: Part, inputs: Inputs) -> list[str]:
    """Say which groups have no arm on a test set, so that nothing is compared with them there."""
    arms = [Arm(phase=arm.phase, labels=arm.labels) for arm in part.test_set.arms]
    empty = [name for name, sets in inputs.report.groups.items() if not members(arms, sets)]
    return [f"{part.test_set.title}: no arm of the group {name} is evaluated there, so it is compared with none." for name in empty]


def best_of(group: str, planned: Sequence[Planned], board: Board) -> Best:
    """Choose one arm in every replicate by its validation metric; ties go to the first arm. The test set plays no part in it."""
    by_arm = {one.arm: {each.run.place.replicate: each for each in one.present(board) if None in each.areas} for one in planned}
    names = dict.fromkeys(run.place.replicate for one in planned for run in one.runs)
    replicates = [name for name in names if name != NO_REPLICATE] or [NO_REPLICATE]
    bare = Best(group=group, n_arms=len(planned))
    complete: dict[str, dict[str, Scored]] = {}
    for name in replicates:
        # A run that nothing repeats is a fixed model, which stands for choice in every replicate.
        there = {arm: runs.get(name, runs.get(NO_REPLICATE)) for arm, runs in by_arm.items()}
        known = {arm: run for arm, run in there.items() if run is not None}
        if len(known) == len(there):
            complete[name] = known
    bare = replace(bare, left_out=tuple(name for name in replicates if name not in complete))
    everyone = [run for runs in complete.values() for run in runs.values()]
    reason = "" if len(planned) == 1 else _why_not(everyone)
    if reason or not complete:
        return replace(bare, reason=reason or "no replicate has a run of every arm")
    chosen = {name: _choose(runs) for name, runs in complete.items()}
    picked = everyone[0].run.picked
    return replace(
        bare,
        scored=tuple(_as_replicate(runs[chosen[name]], name, list(runs.values())) for name, runs in complete.items()),
        choices=tuple(
            GroupChoice(group=group, replicate=name, arm=arm, value=complete[name][arm].run.picked.value) for name, arm in chosen.items()
        ),
        chosen_by="" if len(planned) == 1 else str(picked.metric),
        n_val_patients=None if len(planned) == 1 else picked.val_patients,
    )


def _why_not(runs: Sequence[Scored]) -> str:
    """Say why runs cannot be told apart by validation, or nothing."""
    silent = sorted({one.run.place.arm for one in runs if one.run.picked.value is None or one.run.picked.metric is None})
    if silent:
        return f"no validation metric picked {', '.join(silent)}"
    rules = sorted({f"{one.run.picked.metric} ({one.run.picked.mode})" for one in runs})
    if len(rules) > 1:
        return f"its arms are picked by different metrics: {', '.join(rules)}"
    sets = sorted({f"{one.run.picked.validated_on}, {one.run.picked.val_patients} patients" for one in runs})
    return f"its arms are validated on different data: {'; '.join(sets)}" if len(sets) > 1 else ""


def _choose(runs: Mapping[str, Scored]) -> str:
    def worth(arm: str) -> float:
        picked = runs[arm].run.picked
        value = picked.value or 0.0
        return -value if picked.mode == "min" else value

    return max(runs, key=worth)


def _as_replicate(chosen: Scored, name: str, candidates: Sequence[Scored]) -> Scored:
    """Let a chosen run stand for the whole procedure: its draw is that of all arms, and so are the pretrainings behind it."""
    draws = {one.run.draw.sha256: one.run.draw for one in candidates if one.run.place.replicate == name}
    draw = next(iter(draws.values())) if len(draws) == 1 else Draw(sha256=None, patients=None, images=None)
    run = chosen.run
    changed = replace(
        run,
        place=replace(run.place, replicate=name),
        draw=draw,
        pretraining="+".join(sorted({one.run.pretraining for one in candidates if one.run.pretraining})),
    )
    return replace(chosen, run=changed)


def _compared(sides: tuple[Best, Best], size: str, part: Part, board: Board, confidence: float) -> GroupDifference:
    one, other = sides
    reasons = [f"{side.group}: {side.reason}" for side in sides if side.reason]
    gaps = [str(Status.MISSING_RUNS)] if any(side.left_out for side in sides) else []
    val = {side.n_val_patients for side in sides if side.n_val_patients is not None}
    bare = GroupDifference(
        test_set=part.test_set.key,
        group=one.group,
        other=other.group,
        size=size,
        measure=part.test_set.measure,
        estimate=None,
        low=None,
        high=None,
        p=None,
        p_adjusted=None,
        adjustment="",
        family=0,
        estimand="",
        method="none",
        matching="none",
        status=(*gaps, str(Status.NOT_ESTIMABLE)),
        n_replicates=0,
        n_arms=one.n_arms,
        n_arms_other=other.n_arms,
        chosen_by=" and ".join(dict.fromkeys(side.chosen_by for side in sides if side.chosen_by)),
        n_val_patients=val.pop() if len(val) == 1 else None,
        reason="; ".join(reasons),
        choices=(*one.choices, *other.choices),
        left_out=tuple(f"{side.group}: {name}" for side in sides for name in side.left_out),
    )
    every = (*one.scored, *other.scored)
    if reasons or any(each.areas[None].influence is None for each in every):
        return bare
    paired = pair(one.scored, other.scored)
    got = answer_pair(paired, board, None, cluster=part.test_set.cluster, confidence=confidence)
    means = [float(np.mean([each.value(None) for each in side])) for side in (paired.a, paired.b)]
    return replace(
        bare,
        estimate=means[0] - means[1],
        low=got.headline.low,
        high=got.headline.high,
        p=got.headline.p,
        estimand=got.headline.estimand,
        method=got.headline.method,
        matching=paired.matching,
        status=tuple(dict.fromkeys([*gaps, *map(str, got.status)])),
        n_replicates=min(len(paired.a), len(paired.b)),
        left_out=(*bare.left_out, *paired.unmatched),
        estimates=got.estimates,
        points=tuple(ChainPoint(replicate=each.replicate, value=each.value) for each in points_of(paired, None)),
    )


def _adjusted(found: Sequence[GroupDifference]) -> list[GroupDifference]:
    inside = [index for index, one in enumerate(found) if one.p is not None and Status.ONE_RUN not in one.status]
    changed = dict(zip(inside, holm([found[index].p or 0.0 for index in inside]), strict=True))
    return [
        replace(one, p_adjusted=changed[index], adjustment="holm", family=len(inside)) if index in changed else one
        for index, one in enumerate(found)
    ]
