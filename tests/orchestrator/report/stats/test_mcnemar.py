"""McNemar's test against statsmodels and against the binomial written out."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as theirs

from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.mcnemar import mcnemar, only_one_right

COUNTS = [(b, c) for b, c in product([0, 1, 2, 5, 12, 40], repeat=2) if b + c]


@pytest.mark.parametrize(("b", "c"), COUNTS)
def test_the_exact_p_is_that_of_statsmodels(b: int, c: int) -> None:
    found = mcnemar(b, c)
    assert found.p == pytest.approx(theirs([[10, b], [c, 20]], exact=True).pvalue, abs=1e-12)
    assert (found.n, found.statistic) == (b + c, b - c)


@pytest.mark.parametrize(("b", "c"), COUNTS)
def test_the_mid_p_counts_what_was_seen_half(b: int, c: int) -> None:
    n = b + c
    shares = [comb(n, k) / 2**n for k in range(n + 1)]
    further = sum(share for k, share in enumerate(shares) if abs(2 * k - n) > abs(b - c))
    as_far = sum(share for k, share in enumerate(shares) if abs(2 * k - n) == abs(b - c))
    assert mcnemar(b, c, mid_p=True).p == pytest.approx(further + as_far / 2, abs=1e-12)
    assert mcnemar(b, c).p == pytest.approx(min(1.0, further + as_far), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 30])
def test_the_smallest_p_is_that_of_the_most_uneven_split(n: int) -> None:
    assert mcnemar(1, n - 1).smallest_p == pytest.approx(2 / 2**n, rel=1e-12)
    assert mcnemar(0, n).p == mcnemar(1, n - 1).smallest_p
    assert mcnemar(0, n, mid_p=True).smallest_p == pytest.approx(1 / 2**n, rel=1e-12)
    assert mcnemar(0, n).can_reach(0.05) == (n >= 6)


def test_models_that_never_differ_have_a_status_and_no_p() -> None:
    found = mcnemar(0, 0)
    assert found.status == (Status.IDENTICAL,)
    assert (found.p, found.smallest_p) == (None, None)


def test_cases_are_counted() -> None:
    first, second = np.array([True, True, False, False, True]), np.array([True, False, True, False, False])
    assert only_one_right(first, second) == (2, 1)
    with pytest.raises(ValueError, match="a boolean for each case"):
        only_one_right(first, second[:4])
    with pytest.raises(ValueError, match="a boolean for each case"):
        only_one_right(first, second.astype(float))
    with pytest.raises(ValueError, match="not negative"):
        mcnemar(-1, 3)
