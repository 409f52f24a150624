"""t-tests against scipy and statsmodels, and what they say of samples that cannot be tested."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttest_ind

from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.hypotheses import HypothesisTest
from orchestrator.report.stats.means import independent_t, paired_t, welch_t

SIZES = [(2, 2), (3, 2), (5, 5), (10, 10), (4, 17), (1, 3)]


def samples(n: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, n, m])
    return rng.normal(0.82, 0.01, n), rng.normal(0.815, 0.03, m)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_an_independent_t_test_is_scipys_and_statsmodels(n: int, m: int) -> None:
    a, b = samples(n, m, 0)
    found, expected = independent_t(a, b), stats.ttest_ind(a, b)
    assert (found.statistic, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, n + m - 2), rel=1e-11)
    assert (found.statistic, found.p, found.df) == pytest.approx(ttest_ind(a, b), rel=1e-11)
    assert found.n == n + m


@pytest.mark.parametrize(("n", "m"), SIZES[:5])
def test_a_welch_test_is_scipys_and_statsmodels(n: int, m: int) -> None:
    a, b = samples(n, m, 1)
    found, expected = welch_t(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert (found.statistic, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, expected.df), rel=1e-11)
    assert (found.statistic, found.p, found.df) == pytest.approx(ttest_ind(a, b, usevar="unequal"), rel=1e-11)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_a_paired_test_is_scipys(n: int) -> None:
    a, b = samples(n, n, 2)
    found, expected = paired_t(a, b), stats.ttest_rel(a, b)
    assert (found.statistic, found.p, found.df) == pytest.approx((expected.statistic, expected.pvalue, n - 1), rel=1e-11)
    assert found.n == n


def test_swapping_the_sides_turns_the_sign_alone() -> None:
    a, b = samples(6, 6, 3)
    for test in (independent_t, welch_t, paired_t):
        assert test(a, b).p == test(b, a).p
        assert test(a, b).statistic == -(test(b, a).statistic or 0)
        assert test(100 * a + 7, 100 * b + 7).p == pytest.approx(test(a, b).p, rel=1e-9)


@pytest.mark.parametrize(("found", "status"), [
    (independent_t(np.array([0.8]), np.array([0.7])), Status.NOT_ESTIMABLE),
    (independent_t(np.array([]), np.array([0.7, 0.8])), Status.NOT_ESTIMABLE),
    (welch_t(np.array([0.8]), np.array([0.7, 0.8])), Status.NOT_ESTIMABLE),
    (paired_t(np.array([0.8]), np.array([0.7])), Status.NOT_ESTIMABLE),
    (independent_t(np.full(3, 0.8), np.full(4, 0.8)), Status.IDENTICAL),
    (independent_t(np.full(3, 0.8), np.full(4, 0.7)), Status.CONSTANT),
    (welch_t(np.full(3, 0.8), np.full(4, 0.7)), Status.CONSTANT),
    (paired_t(np.array([0.3, 0.1 + 0.2]), np.array([0.1 + 0.2, 0.3])), Status.IDENTICAL),
    (paired_t(np.array([0.8, 0.9, 0.7]), np.array([0.7, 0.8, 0.6])), Status.CONSTANT),
])  # fmt: skip
def test_what_cannot_be_tested_has_a_status_and_no_number(found: HypothesisTest, status: Status) -> None:
    assert found.status == (status,)
    assert (found.statistic, found.p, found.smallest_p, found.df) == (None, None, None, None)
    assert not found.can_reach(0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    for test in (independent_t, welch_t, paired_t):
        with pytest.raises(ValueError, match="b holds 1 values that are not finite"):
            test(np.array([0.1, 0.2]), np.array([0.3, bad]))


def test_shapes_that_are_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a has shape \(2, 1\)"):
        welch_t(np.array([[0.1], [0.2]]), np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="3 values cannot be paired with 2"):
        paired_t(np.array([0.1, 0.2, 0.3]), np.array([0.1, 0.2]))


def test_a_t_test_has_no_smallest_p() -> None:
    found = paired_t(np.array([0.8, 0.81]), np.array([0.7, 0.72]))
    assert found.smallest_p == 0.0
    assert found.can_reach(0.001)
