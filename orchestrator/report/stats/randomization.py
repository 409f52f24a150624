"""Tests that need no model: every way in which signs, labels or models could have fallen is listed, or sampled by counter.

A two-sided p is the share of assignments whose statistic is as far from zero as the one that was seen. With few observations there are few
assignments, so each test says the smallest p that it could have given.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from scipy import special, stats

from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.hypotheses import SAME, HypothesisTest, finite
from orchestrator.report.stats.streams import permutations, words

#: Beyond this many assignments they are sampled instead of listed.
EXACT_UP_TO = 2**17
SAMPLED = 20_000
#: Pairs up to which the distribution of a rank sum is counted out; a normal stands in beyond.
COUNTED_UP_TO = 200
_TILE = 1024


def sign_flip(differences: np.ndarray, *, seed: int = 0, sampled: int = SAMPLED) -> HypothesisTest:
    """Test that paired differences (n,) are symmetric about zero, by the mean: each could have had either sign (Fisher 1935).

    With n replicates, none of them zero, no p is below 2 / 2**n. Raises ValueError on a value that is not finite.
    """
    gap = finite(differences, "differences")
    reach = float(np.abs(gap).sum())
    if len(gap) == 0 or reach == 0.0:
        return HypothesisTest(method="sign_flip", n=len(gap), status=(Status.NOT_ESTIMABLE if len(gap) == 0 else Status.IDENTICAL,))
    exact = 2 ** len(gap) <= EXACT_UP_TO
    sums = _all_sign_sums(gap) if exact else _sampled_sign_sums(gap, seed, sampled)
    return two_sided("sign_flip", len(gap), float(gap.sum()), sums, SAME * reach, exact=exact, divide_by=len(gap))


def _all_sign_sums(gap: np.ndarray) -> np.ndarray:
    sums = np.zeros(1)
    for value in gap:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _sampled_sign_sums(gap: np.ndarray, seed: int, sampled: int) -> np.ndarray:
    parts = [_signs(len(gap), seed, np.arange(start, min(start + _TILE, sampled))) @ gap for start in range(0, sampled, _TILE)]
    return np.concatenate(parts)


def _signs(units: int, seed: int, replicates: np.ndarray) -> np.ndarray:
    return 1.0 - 2.0 * (words(seed, replicates, units) >> np.uint64(63)).astype(np.float64)


def permutation(a: np.ndarray, b: np.ndarray, *, seed: int = 0, sampled: int = SAMPLED) -> HypothesisTest:
    """Test that two independent samples, `a` (n,) and `b` (m,), are from one distribution, by the difference of means (Pitman 1937).

    Raises ValueError on a value that is not finite.
    """
    a, b = finite(a, "a"), finite(b, "b")
    n, m = len(a), len(b)
    if min(n, m) == 0:
        return HypothesisTest(method="permutation", n=n + m, status=(Status.NOT_ESTIMABLE,))
    pooled = np.concatenate([a, b])
    if np.ptp(pooled) <= SAME * np.abs(pooled).max():
        return HypothesisTest(method="permutation", n=n + m, status=(Status.IDENTICAL,))
    centred = pooled - pooled.mean()
    exact = math.comb(n + m, n) <= EXACT_UP_TO
    sums = centred[np.array(list(combinations(range(n + m), n)))].sum(axis=1) if exact else _sampled_sums(centred, n, seed, sampled)
    # The first sample's sum about the common mean is the difference of means times n m / (n + m).
    return two_sided(
        "permutation", n + m, float(centred[:n].sum()), sums, SAME * np.abs(pooled).sum(), exact=exact, divide_by=n * m / (n + m)
    )


def _sampled_sums(centred: np.ndarray, n: int, seed: int, sampled: int) -> np.ndarray:
    return np.concatenate(
        [
            centred[permutations(len(centred), seed, np.arange(start, min(start + _TILE, sampled)))[:, :n]].sum(axis=1)
            for start in range(0, sampled, _TILE)
        ]
    )


def two_sided(method: str, n: int, seen: float, sums: np.ndarray, same: float, *, exact: bool, divide_by: float) -> HypothesisTest:
    """Return the test of a statistic by its value in every assignment, (assignments,); values within `same` of it are as far as it is."""
    far = np.abs(sums)
    as_far, extra = int((far >= abs(seen) - same).sum()), 0 if exact else 1
    total = len(sums) + extra
    return HypothesisTest(
        method=method,
        n=n,
        statistic=seen / divide_by,
        p=(as_far + extra) / total,
        smallest_p=float((far >= far.max() - same).sum()) / total if exact else 1 / total,
        exact=exact,
        assignments=len(sums),
    )


def wilcoxon(differences: np.ndarray) -> HypothesisTest:
    """Test that paired differences (n,) are symmetric about zero, by the sum of the ranks of the positive ones (Wilcoxon 1945).

    Zeros are left out, ties share their mean rank, and the distribution is counted out for these ranks up to 200 pairs; beyond stands a
    normal with the variance of these ranks. Raises ValueError on a value that is not finite.
    """
    gap = finite(differences, "differences")
    gap = gap[gap != 0.0]
    n = len(gap)
    if n == 0:
        return HypothesisTest(method="wilcoxon", n=0, status=(Status.NOT_ESTIMABLE if len(differences) == 0 else Status.IDENTICAL,))
    twice = np.rint(2 * stats.rankdata(np.abs(gap))).astype(np.int64)
    seen = int(twice[gap > 0].sum())
    if n > COUNTED_UP_TO:
        z = (abs(seen - twice.sum() / 2)) / math.sqrt(float((twice.astype(np.float64) ** 2).sum()) / 4)
        return HypothesisTest(
            method="wilcoxon", n=n, statistic=seen / 2, p=float(2 * special.ndtr(-z)), smallest_p=2.0**-n * 2, exact=False
        )
    share = _rank_sum_distribution(twice)
    least = min(seen, int(twice.sum()) - seen)
    p = min(1.0, 2 * float(share[: least + 1].sum()))
    return HypothesisTest(method="wilcoxon", n=n, statistic=seen / 2, p=p, smallest_p=min(1.0, 2 * float(share[0])))


def _rank_sum_distribution(twice: np.ndarray) -> np.ndarray:
    """Return the probability of each value of twice the rank sum when every sign is as likely, float64 (sum + 1,)."""
    share = np.zeros(int(twice.sum()) + 1)
    share[0] = 1.0
    for rank in twice:
        share[rank:] = (share[rank:] + share[: len(share) - rank]) / 2
        share[:rank] /= 2
    return share
