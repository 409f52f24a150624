"""What runs alone say, the test set held fixed: tests over replicates with the smallest p that each can reach, and views over findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from orchestrator.report.stats.hypotheses import HypothesisTest
from orchestrator.report.stats.means import paired_t, welch_t
from orchestrator.report.stats.randomization import permutation, sign_flip, wilcoxon
from orchestrator.report.stats.views import interquartile_mean, probability_of_improvement
from orchestrator.report.values import Cell, Difference, ReplicateTest, View

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


def views(differences: Iterable[Difference], label_cells: Iterable[Cell], findings: Mapping[str, Sequence[str]]) -> tuple[View, ...]:
    """Return the middle half of each arm over findings and replicates, and how often a run beats one of the baseline.

    `findings` are those that the measure of a test set averages. Findings share patients and models, so these have no interval.
    """
    runs = _runs_by_findings(label_cells, findings)
    found = [
        View(test_set=place[0], arm=place[1], baseline=None, size=place[2], name="interquartile_mean", value=value, **_counts(runs[place]))
        for place in runs
        if (value := interquartile_mean(runs[place])) is not None
    ]
    for one in differences:
        a, b = (runs.get((one.test_set, arm, one.size)) for arm in (one.arm, one.baseline))
        if a is None or b is None or a.shape[1] != b.shape[1]:
            continue
        value = probability_of_improvement(a, b)
        if value is not None:
            found.append(
                View(
                    test_set=one.test_set,
                    arm=one.arm,
                    baseline=one.baseline,
                    size=one.size,
                    name="probability_of_improvement",
                    value=value,
                    **_counts(a),
                )
            )
    return tuple(dict.fromkeys(found))


def _runs_by_findings(label_cells: Iterable[Cell], findings: Mapping[str, Sequence[str]]) -> dict[_Place, np.ndarray]:
    """Return areas (replicates, findings) of each arm and number of labels, of findings that every replicate has."""
    columns: dict[_Place, list[np.ndarray]] = {}
    for one in label_cells:
        if one.label in findings.get(one.test_set, ()) and one.points:
            columns.setdefault(_place(one), []).append(np.array([point.value for point in one.points]))
    return {place: np.stack(found, axis=1) for place, found in columns.items() if len({len(one) for one in found}) == 1}


def _counts(runs: np.ndarray) -> dict[str, int]:
    return {"n_replicates": runs.shape[0], "n_findings": runs.shape[1]}


def _place(cell: Cell) -> _Place:
    return cell.test_set, cell.arm, cell.size
