"""`report.margin`: which arms are equivalent to their baseline, or not worse than it, by that margin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.margins import against_margin
from orchestrator.report.stats.multiplicity import holm
from orchestrator.report.study.values import MarginVerdict
from orchestrator.report.values import Difference

EQUIVALENT, NOT_WORSE, NOT_SHOWN, SILENT = "equivalent", "not_worse", "not_shown", "silent"


def margin_verdicts(differences: Sequence[Difference], margin: float, confidence: float) -> list[MarginVerdict]:
    """Test the declared differences of one test set against a margin; p values are adjusted by Holm within each contrast."""
    made = [_one(one, margin, confidence) for one in differences]
    for contrast in dict.fromkeys(one.contrast for one in differences):
        inside = [index for index, one in enumerate(made) if one.contrast == contrast and one.p_equivalent is not None]
        both = [holm([getattr(made[index], name) for index in inside]) for name in ("p_equivalent", "p_not_worse")]
        for index, equivalent, not_worse in zip(inside, *both, strict=True):
            outcome = EQUIVALENT if equivalent < 1 - confidence else NOT_WORSE if not_worse < 1 - confidence else NOT_SHOWN
            made[index] = replace(
                made[index],
                p_equivalent_adjusted=equivalent,
                p_not_worse_adjusted=not_worse,
                family=len(inside),
                outcome=outcome,
            )
    return made


def _one(one: Difference, margin: float, confidence: float) -> MarginVerdict:
    bare = MarginVerdict(
        test_set=one.test_set,
        contrast=one.contrast,
        arm=one.arm,
        baseline=one.baseline,
        size=one.size,
        measure=one.measure,
        margin=margin,
        estimate=one.estimate,
        estimand=one.estimand,
        outcome=SILENT,
        status=one.status,
    )
    head = next((found for found in one.estimates if (found.estimand, found.method) == (one.estimand, one.method)), None)
    # A percentile interval has no standard error to test with, and one run a side is no claim about a method.
    exact = one.method == "obuchowski_rockette_hillis" and Status.ONE_RUN not in one.status
    if not exact or head is None or not head.se or head.value is None:
        return bare
    found = against_margin(head.value, head.se, math.inf if head.df is None else head.df, margin, confidence)
    return replace(bare, low=found.low, high=found.high, p_equivalent=found.p_equivalent, p_not_worse=found.p_not_worse)
