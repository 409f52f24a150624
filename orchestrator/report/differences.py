"""Arms against their baselines: matched where both saw the same labelled patients, nested otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from orchestrator.report import cells
from orchestrator.report.board import Board, Scored
from orchestrator.report.cells import Group, Planned
from orchestrator.report.stats.estimate import Estimate, Status
from orchestrator.report.stats.inference import Answer, Question, Replicates, answer
from orchestrator.report.stats.multiplicity import benjamini_hochberg, holm
from orchestrator.report.stats.multireader import crossed, nested
from orchestrator.report.values import Difference, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """How the runs of two arms belong together. Matched: `a[i]` and `b[i]` are one replicate. Else each side has its own."""

    matching: str
    a: tuple[Group, ...]
    b: tuple[Group, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def is_paired(self) -> bool:
        """Tell whether each replicate has a difference of its own."""
        return self.matching in ("matched", "fixed_reference")


def pair(a: Sequence[Scored], b: Sequence[Scored]) -> Pairing:
    """Decide how two arms are compared, by the sha256 of the labelled patients of each run.

    Equal digests are the same draw: matched. Seeds on identical data share a digest and are not matched. An arm without any replicate
    label is a fixed reference, subtracted from each replicate of the other.
    """
    digests = {one.run.draw.sha256 for one in (*a, *b)}
    same_data = len(digests) == 1 and max(len(a), len(b)) > 1
    if a and b and not same_data and None not in digests:
        keyed_a, keyed_b = _keyed(a, b)
        shared = sorted(keyed_a.keys() & keyed_b.keys(), key=lambda key: keyed_a[key].run.place.replicate)
        if shared:
            alone = [keyed[key].run for keyed in (keyed_a, keyed_b) for key in sorted(keyed.keys() - set(shared))]
            return _grouped(
                [(keyed_a[key], keyed_b[key]) for key in shared], tuple(f"{run.place.arm}: {run.place.replicate}" for run in alone)
            )
    for one, other in ((a, b), (b, a)):
        if len(one) == 1 and one[0].run.place.replicate == "run" and any(item.run.place.replicate != "run" for item in other):
            groups, fixed = cells.replicate_groups(other), Group(name="run", members=tuple(one))
            repeated = (fixed,) * len(groups)
            sides = (tuple(groups), repeated) if one is b else (repeated, tuple(groups))
            return Pairing(matching="fixed_reference", a=sides[0], b=sides[1])
    sides = tuple(cells.replicate_groups(a)), tuple(cells.replicate_groups(b))
    if not a or not b:
        return Pairing(matching="none", a=sides[0], b=sides[1])
    return Pairing(matching="nested" if min(map(len, sides)) > 1 else "one_run", a=sides[0], b=sides[1])


def _keyed(a: Sequence[Scored], b: Sequence[Scored]) -> tuple[dict[str, Scored], dict[str, Scored]]:
    """Key runs by their draw, and by the replicate too when an arm has a draw twice (a tiny pool drawn alike)."""
    plain = [{str(one.run.draw.sha256): one for one in side} for side in (a, b)]
    if all(len(keyed) == len(side) for keyed, side in zip(plain, (a, b), strict=True)):
        return plain[0], plain[1]
    named = [{f"{one.run.draw.sha256}|{one.run.place.replicate}": one for one in side} for side in (a, b)]
    return named[0], named[1]


def _grouped(pairs: Sequence[tuple[Scored, Scored]], unmatched: tuple[str, ...]) -> Pairing:
    """Make replicates of matched runs: one a pair, or one a pretraining when there are several but fewer of them than pairs."""

    def behind(one: tuple[Scored, Scored]) -> str:
        return one[0].run.pretraining + "|" + one[1].run.pretraining

    keys = {behind(one) for one in pairs}
    if 2 <= len(keys) < len(pairs):
        gathered = [list(rows) for _, rows in groupby(sorted(pairs, key=behind), key=behind)]
        names = [f"pretraining {index}" for index in range(len(gathered))]
    else:
        gathered, names = [[one] for one in pairs], [one[0].run.place.replicate for one in pairs]
    sides = [
        tuple(Group(name=name, members=tuple(one[side] for one in rows)) for name, rows in zip(names, gathered, strict=True))
        for side in (0, 1)
    ]
    return Pairing(matching="matched" if len(gathered) > 1 else "one_run", a=sides[0], b=sides[1], unmatched=unmatched)


def difference(
    sides: tuple[Planned, Planned], board: Board, label: str | None, *, contrast: str, measure: str, cluster: str, confidence: float
) -> Difference:
    """Answer the three questions for an arm less its baseline."""
    a, b = ([one for one in side.present(board) if label in one.areas] for side in sides)
    paired = pair(a, b)
    incomplete = any(side.missing(board) for side in sides)
    status = [*cells.label_status(board, label), *cells.scores_status([*a, *b], label), *([Status.MISSING_RUNS] if incomplete else [])]
    bare = _bare(sides, paired, label, contrast=contrast, measure=measure)
    if paired.matching == "none" or any(one.areas[label].influence is None for one in (*a, *b)):
        return replace(bare, status=tuple(dict.fromkeys([*map(str, status), str(Status.NOT_ESTIMABLE)])))
    got = answer_pair(paired, board, label, cluster=cluster, confidence=confidence)
    head = got.headline
    return replace(
        bare,
        estimate=head.value,
        low=head.low,
        high=head.high,
        p=head.p,
        estimand=head.estimand,
        method=head.method,
        status=tuple(dict.fromkeys(map(str, (*status, *got.status)))),
        estimates=got.estimates,
    )


def answer_pair(paired: Pairing, board: Board, label: str | None, *, cluster: str, confidence: float) -> Answer:
    """Answer the three questions for two sides that are both there and have influence values."""
    everyone = [one for group in (*paired.a, *paired.b) for one in group.members]
    positives, negatives = cells.fewest(board.labels, label)
    many = max((paired.a, paired.b), key=lambda side: len({group.name for group in side}))
    question = Question(
        confidence=confidence,
        counts=board.counts,
        replicate=cells.replicate_word([one for group in many for one in group.members], many),
        cluster=cluster,
        given=tuple(
            dict.fromkeys(word for side in (paired.a, paired.b) for word in cells.given([one for group in side for one in group.members]))
        ),
        positives=positives,
        negatives=negatives,
        clusters=board.clusters,
        difference=True,
        scale=board.kind_of(label).scale,
    )
    edge = any(one.areas[label].at_end for one in everyone)
    a, b = cells.stack(paired.a, label), cells.stack(paired.b, label)
    if paired.is_paired or (len(paired.a) == len(paired.b) == 1):
        values, influence, areas = (left - right for left, right in zip(a, b, strict=True))
        side = Replicates(values=values, areas=areas, at_boundary=edge, influence=influence.mean(axis=0))
        return answer(crossed(values, influence), (side,), question)
    sides = tuple(Replicates(values=side[0], areas=side[2], at_boundary=edge, influence=side[1].mean(axis=0)) for side in (a, b))
    return answer(nested(a[0], a[1], b[0], b[1]), sides, question)


def _bare(sides: tuple[Planned, Planned], paired: Pairing, label: str | None, *, contrast: str, measure: str) -> Difference:
    estimate = None
    if paired.matching != "none":
        estimate = float(np.mean([group.value(label) for group in paired.a]) - np.mean([group.value(label) for group in paired.b]))
    return Difference(
        test_set=sides[0].test_set,
        contrast=contrast,
        arm=sides[0].arm,
        baseline=sides[1].arm,
        size=sides[0].size,
        measure=measure,
        label=label,
        estimate=estimate,
        low=None,
        high=None,
        p=None,
        p_adjusted=None,
        adjustment="",
        family=0,
        estimand="",
        method="none",
        matching=paired.matching,
        status=(),
        n_replicates=min(len(paired.a), len(paired.b)),
        unmatched=paired.unmatched,
        points=points_of(paired, label),
    )


def points_of(paired: Pairing, label: str | None) -> tuple[Point, ...]:
    """Return the difference of every replicate; none where the sides are not paired."""
    if not (paired.is_paired or len(paired.a) == len(paired.b) == 1):
        return ()
    return tuple(
        Point(
            replicate=(one if one.name != "run" else other).name,
            value=one.value(label) - other.value(label),
            jobs=tuple(item.run.job for item in (*one.members, *other.members)),
        )
        for one, other in zip(paired.a, paired.b, strict=True)
    )


def adjust(found: Sequence[Difference], by: str) -> list[Difference]:
    """Adjust p values within a family by `holm` or `benjamini_hochberg`; differences of one run a side claim nothing and are in none."""
    inside = [index for index, one in enumerate(found) if one.p is not None and Status.ONE_RUN not in one.status]
    adjusted = (holm if by == "holm" else benjamini_hochberg)([found[index].p or 0.0 for index in inside])
    changed: Mapping[int, float] = dict(zip(inside, adjusted, strict=True))
    return [
        replace(one, p_adjusted=changed[index], adjustment=by, family=len(inside)) if index in changed else one
        for index, one in enumerate(found)
    ]


def named(estimates: Sequence[Estimate], method: str) -> Estimate | None:
    """Return the estimate that a method made, if it made one."""
    return next((one for one in estimates if one.method == method), None)
