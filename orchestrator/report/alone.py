"""What runs alone say, the test set held fixed: tests over replicates with the smallest p that each can reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

import numpy as np

from orchestrator.report.stats.hypotheses import HypothesisTest
from orchestrator.report.stats.means import paired_t, welch_t
from orchestrator.report.stats.randomization import permutation, sign_flip, wilcoxon
from orchestrator.report.values import Cell, Difference, ReplicateTest

#: (test set, arm, number of labels).
_Place = tuple[str, str, str]


def replicate_tests(differences: Iterable[Difference], cells: Iterable[Cell]) -> tuple[ReplicateTest, ...]:
    """Test each declared difference over its replicates: within pairs where they are matched, between the two arms where not.

    A difference of one run a side has nothing to be tested on, and no row.
    """
    by_place = {_place(one): one for one in cells if one.label is None}
    return tuple(_row(one, test) for one in differences for test in _tests(one, by_place))


def _tests(one: Difference, cells: Mapping[_Place, Cell]) -> list[HypothesisTest]:
    if one.matching in ("matched", "fixed_reference"):
        gap = np.array([point.value for point in one.points])
        return [sign_flip(gap), wilcoxon(gap), paired_t(gap, np.zeros(len(gap)))]
    if one.matching == "nested":
        a, b = (np.array([point.value for point in cells[one.test_set, arm, one.size].points]) for arm in (one.arm, one.baseline))
        return [permutation(a, b), welch_t(a, b)]
    return []


def _row(one: Difference, test: HypothesisTest) -> ReplicateTest:
    found = asdict(test)
    found["status"] = tuple(str(word) for word in test.status)
    return ReplicateTest(test_set=one.test_set, contrast=one.contrast, arm=one.arm, baseline=one.baseline, size=one.size, **found)


def _place(cell: Cell) -> _Place:
    return cell.test_set, cell.arm, cell.size
