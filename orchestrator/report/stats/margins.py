"""Equivalence and non-inferiority: a difference against a margin instead of against zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special
from scipy import stats as distributions

from orchestrator.report.stats import intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstMargin:
    """Two one-sided tests (Schuirmann 1987) of a difference against a margin below and above zero."""

    #: That the difference is not below minus the margin.
    p_not_worse: float
    #: That it is not above the margin.
    p_not_better: float
    #: The interval that lies inside the margins exactly when both tests reject: its level is 1 - 2 alpha.
    low: float
    high: float

    @property
    def p_equivalent(self) -> float:
        """Return the p value of equivalence: the larger of the two."""
        return max(self.p_not_worse, self.p_not_better)


def against_margin(value: float, se: float, df: float, margin: float, confidence: float) -> AgainstMargin:
    """Test a difference with a standard error (t with `df`, normal where that is infinite) against plus and minus a margin.

    Raises ValueError on a standard error or a margin that is not positive.
    """
    if se <= 0 or margin <= 0:
        raise ValueError("a margin needs a positive standard error and a positive margin")
    low, high = intervals.raw(value, se, df, 2 * confidence - 1)
    return AgainstMargin(p_not_worse=_upper((value + margin) / se, df), p_not_better=_upper((margin - value) / se, df), low=low, high=high)


def _upper(ratio: float, df: float) -> float:
    return float(special.ndtr(-ratio)) if math.isinf(df) else float(distributions.t.sf(ratio, df))
