"""McNemar's test: two models on the same cases, decided by the cases on which exactly one of them is right. Cases are independent."""

from __future__ import annotations

import numpy as np
from scipy import stats as distributions

from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.hypotheses import HypothesisTest


def mcnemar(only_first: int, only_second: int, *, mid_p: bool = False) -> HypothesisTest:
    """Test whether two models are right equally often, from the counts of cases that only the first, and only the second, gets right.

    Exact binomial (McNemar 1947), or with `mid_p` half the probability of what was seen (Fagerland, Lydersen & Laake 2013), which is less
    conservative. Without such a case the two never differ: IDENTICAL, and no p. Raises ValueError on a negative count.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"counts of cases are not negative, got {only_first} and {only_second}")
    method, n, least = "mcnemar_mid_p" if mid_p else "mcnemar_exact", only_first + only_second, min(only_first, only_second)
    if n == 0:
        return HypothesisTest(method=method, n=0, status=(Status.IDENTICAL,))
    return HypothesisTest(
        method=method, n=n, statistic=float(only_first - only_second), p=_p(least, n, mid_p=mid_p), smallest_p=_p(0, n, mid_p=mid_p)
    )


def _p(least: int, n: int, *, mid_p: bool) -> float:
    """Return the probability of a split as uneven as `least` to `n - least` or more."""
    seen = float(distributions.binom.pmf(least, n, 0.5))
    if 2 * least == n:
        return 1.0 - seen / 2 if mid_p else 1.0
    return float(2 * distributions.binom.cdf(least, n, 0.5)) - (seen if mid_p else 0.0)


def only_one_right(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Count the cases that only the first, and only the second, gets right, from booleans (cases,) each.

    Raises ValueError when they are not booleans of one length.
    """
    if first.dtype != np.bool_ or second.dtype != np.bool_ or first.shape != second.shape:
        raise ValueError(f"right or wrong is a boolean for each case, got {first.dtype} {first.shape} and {second.dtype} {second.shape}")
    return int((first & ~second).sum()), int((second & ~first).sum())
