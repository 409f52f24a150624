"""The best arm of one group against the best of another as the benchmark of transformers has it, beside this report's answer.

Its Figure 1 sets the best of six transformers against the best of three CNNs: both chosen by the test scores that they are tested on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.arms import Arm, members
from orchestrator.report.board import Board
from orchestrator.report.cells import Planned
from orchestrator.report.inputs import Inputs
from orchestrator.report.parts import Part
from orchestrator.report.published import LEVEL, SAID, reading, runs_of
from orchestrator.report.stats.means import independent_t
from orchestrator.report.study.values import GroupDifference
from orchestrator.report.values import Published

_PROCEDURE = "benchmark"


def published_groups(parts: Sequence[Part], groups: Sequence[GroupDifference], inputs: Inputs) -> tuple[Published, ...]:
    """Return a row for every comparison of two groups; none unless the sweep asks for the benchmark's procedure."""
    if _PROCEDURE not in inputs.report.as_published:
        return ()
    by_key = {part.test_set.key: part for part in parts}
    rows = (_row(one, by_key[one.test_set], inputs) for one in groups)
    return tuple(row for row in rows if row is not None)


def _row(ours: GroupDifference, part: Part, inputs: Inputs) -> Published | None:
    if part.board is None:
        return None
    one, another = (_best(name, ours.size, part, part.board, inputs) for name in (ours.group, ours.other))
    if one is None or another is None:
        return None
    (arm, a), (other, b) = one, another
    tested = independent_t(a, b)
    return Published(
        procedure=_PROCEDURE,
        test_set=ours.test_set,
        size=ours.size,
        arm=arm.arm,
        baseline=other.arm,
        label=None,
        n_runs=min(len(a), len(b)),
        estimate=float(a.mean() - b.mean()),
        p=tested.p,
        claim=reading(tested.statistic, tested.p, LEVEL),
        ours_estimate=ours.estimate,
        ours_low=ours.low,
        ours_high=ours.high,
        ours_estimand=ours.estimand,
        ours_p=ours.p_adjusted,
        ours_claim=reading(ours.estimate, ours.p_adjusted, 1 - inputs.report.confidence),
        status=tuple(str(word) for word in tested.status),
        not_covered=SAID[_PROCEDURE],
        groups=(ours.group, ours.other),
    )


def _best(group: str, size: str, part: Part, board: Board, inputs: Inputs) -> tuple[Planned, np.ndarray] | None:
    """Return the arm of a group whose runs score best on the test set, and their scores (runs,)."""
    arms = [Arm(phase=arm.phase, labels=arm.labels) for arm in part.test_set.arms]
    inside = {part.test_set.arms[index].key for index in members(arms, inputs.report.groups[group])}
    sign = 1 if part.test_set.higher_is_better else -1
    scored = [
        (planned, np.array([one.areas[None].value for one in found]))
        for planned in part.planned
        if planned.size == size and planned.arm in inside and (found := runs_of(planned, board))
    ]
    return max(scored, key=lambda pair: sign * float(pair[1].mean()), default=None)
