"""Student's t-tests on the means of runs: what papers report. They take the test set as given, so they say nothing of new patients."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.hypotheses import SAME, HypothesisTest, finite


def independent_t(a: np.ndarray, b: np.ndarray) -> HypothesisTest:
    """Test equal means of two independent samples of equal variance (Student 1908): `a` (n,), `b` (m,), df n + m - 2.

    Raises ValueError on a value that is not finite, as all tests here do.
    """
    a, b = finite(a, "a"), finite(b, "b")
    df = len(a) + len(b) - 2
    if min(len(a), len(b)) < 1 or df < 1:
        return _not_estimable("independent_t", len(a) + len(b))
    pooled = (_squares(a) + _squares(b)) / df
    return _t("independent_t", a.mean() - b.mean(), pooled * (1 / len(a) + 1 / len(b)), df, np.concatenate([a, b]), (a, b))


def welch_t(a: np.ndarray, b: np.ndarray) -> HypothesisTest:
    """Test equal means of two independent samples whose variances may differ (Welch 1947), with Satterthwaite's degrees of freedom."""
    a, b = finite(a, "a"), finite(b, "b")
    if min(len(a), len(b)) < 2:
        return _not_estimable("welch_t", len(a) + len(b))
    parts = [(_squares(one) / (len(one) - 1) / len(one), len(one) - 1) for one in (a, b)]
    variance, spread = sum(part for part, _ in parts), sum(part**2 / df for part, df in parts)
    df = variance**2 / spread if spread > 0 else math.inf
    return _t("welch_t", a.mean() - b.mean(), variance, df, np.concatenate([a, b]), (a, b))


def paired_t(a: np.ndarray, b: np.ndarray) -> HypothesisTest:
    """Test a mean difference of zero over pairs: `a` and `b` (n,), df n - 1. Raises ValueError when their lengths differ."""
    a, b = finite(a, "a"), finite(b, "b")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values cannot be paired with {len(b)}")
    gap = a - b
    if len(gap) < 2:
        return _not_estimable("paired_t", len(gap))
    return _t("paired_t", gap.mean(), _squares(gap) / (len(gap) - 1) / len(gap), len(gap) - 1, np.concatenate([a, b]), (gap,), pairs=True)


def _squares(values: np.ndarray) -> float:
    return float(((values - values.mean()) ** 2).sum())


def _t(
    method: str,
    difference: float,
    variance: float,
    df: float,
    everything: np.ndarray,
    samples: tuple[np.ndarray, ...],
    *,
    pairs: bool = False,
) -> HypothesisTest:
    n = len(samples[0]) if pairs else len(everything)
    same = SAME * float(np.abs(everything).max())
    # Rounding leaves a spread of its own: without a real one a standard error means nothing.
    if all(np.ptp(one) <= same for one in samples):
        return HypothesisTest(method=method, n=n, status=(Status.IDENTICAL if abs(difference) <= same else Status.CONSTANT,))
    statistic = float(difference / math.sqrt(variance))
    return HypothesisTest(
        method=method, n=n, statistic=statistic, p=float(2 * special.stdtr(df, -abs(statistic))), smallest_p=0.0, df=float(df)
    )


def _not_estimable(method: str, n: int) -> HypothesisTest:
    return HypothesisTest(method=method, n=n, status=(Status.NOT_ESTIMABLE,))
