"""Verdicts on averages over test sets: the sentences of single test sets, said of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report import wording
from orchestrator.report.measures import measure_title
from orchestrator.report.study.values import Average
from orchestrator.report.values import Difference, TestSet, Verdict


def average_verdicts(averages: Sequence[Average], test_sets: Sequence[TestSet], confidence: float) -> list[Verdict]:
    """Return the sentence for each declared difference of an average."""
    return [_verdict(one, [each for each in test_sets if each.key in one.test_sets], confidence) for one in averages if one.baseline]


def averaged_title(test_sets: Sequence[TestSet]) -> str:
    """Return what the measure of some test sets is called on all of them, whose findings may differ."""
    titles = {each.measure_title for each in test_sets}
    return titles.pop() if len(titles) == 1 else measure_title(test_sets[0].measure, ())


def averaged_size(test_sets: Sequence[TestSet], key: str) -> str:
    """Return what a number of labels is called on all of some test sets; where each has its own, all of them are all labels."""
    titles = {size.title for each in test_sets for size in each.sizes if size.key == key}
    return titles.pop() if len(titles) == 1 else "all labels"


def _verdict(one: Average, own: Sequence[TestSet], confidence: float) -> Verdict:
    last = own[-1]
    titles = {one.arms[-1]: one.title, one.baseline_arms[-1]: one.baseline_title or ""}
    all_of_them = replace(
        last,
        sizes=tuple(replace(size, n_labeled_patients=None) for size in last.sizes),
        n_clusters=one.n_clusters,
        measure_title=averaged_title(own),
        arms=tuple(replace(arm, title=titles.get(arm.key, arm.title)) for arm in last.arms),
    )
    over = f"on average over {', '.join(each.title for each in own[:-1])} and {last.title}"
    found = Difference(
        test_set="+".join(one.test_sets),
        contrast=one.contrast or "",
        arm=one.arms[-1],
        baseline=one.baseline_arms[-1],
        size=one.size,
        measure=one.measure,
        label=None,
        estimate=one.estimate,
        low=one.low,
        high=one.high,
        p=one.p,
        p_adjusted=one.p_adjusted,
        adjustment=one.adjustment,
        family=one.family,
        estimand=one.estimand,
        method=one.method,
        matching=one.matching,
        status=one.status,
        n_replicates=one.n_replicates,
    )
    return wording.verdict(found, all_of_them, confidence=confidence, several_sets=True, over=over)
