"""Intervals of proportions against statsmodels and scipy, published examples, and at the edges."""

from __future__ import annotations

import math
from itertools import product

import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from orchestrator.report.stats.proportions import clopper_pearson, newcombe_independent, newcombe_paired, wilson

COUNTS = [(0, 1), (1, 1), (0, 7), (7, 7), (3, 7), (1, 30), (29, 30), (250, 500), (81, 263), (1, 25_596)]


@pytest.mark.parametrize(("part", "whole"), COUNTS)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_one_proportion_is_that_of_statsmodels_and_scipy(part: int, whole: int, confidence: float) -> None:
    for method, ours, scipys in (("wilson", wilson, "wilson"), ("beta", clopper_pearson, "exact")):
        found = ours(part, whole, confidence)
        theirs = proportion_confint(part, whole, alpha=1 - confidence, method=method)
        again = stats.binomtest(part, whole).proportion_ci(confidence, method=scipys)
        assert found == pytest.approx(theirs, abs=1e-12)
        assert found == pytest.approx((again.low, again.high), abs=1e-12)


@pytest.mark.parametrize(("a", "b"), list(product([(0, 10), (10, 10), (4, 10), (56, 70), (9, 10)], [(0, 10), (3, 40), (48, 80), (10, 10)])))
def test_a_difference_of_independent_proportions_is_that_of_statsmodels(a: tuple[int, int], b: tuple[int, int]) -> None:
    found = newcombe_independent(a, b, 0.95)
    theirs = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff", alpha=0.05)
    assert found == pytest.approx(theirs, abs=1e-12)


def test_published_differences_come_out_as_printed() -> None:
    """Newcombe 1998a, table II, column (a): 56/70 - 48/80; and 1998b: 36, 12, 2, 0 of 50 pairs."""
    assert newcombe_independent((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe_independent((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_a_paired_difference_equals_the_formula_written_out() -> None:
    """Newcombe 1998b, method 10, term by term: e, f, g, h with phi corrected for continuity when it is positive."""
    e, f, g, h = 20, 9, 3, 18
    n = e + f + g + h
    one, other = proportion_confint(e + f, n, method="wilson"), proportion_confint(e + g, n, method="wilson")
    p, q = (e + f) / n, (e + g) / n
    phi = max(e * h - f * g - n / 2, 0) / math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    low = p - q - math.sqrt((p - one[0]) ** 2 - 2 * phi * (p - one[0]) * (other[1] - q) + (other[1] - q) ** 2)
    high = p - q + math.sqrt((one[1] - p) ** 2 - 2 * phi * (one[1] - p) * (q - other[0]) + (q - other[0]) ** 2)
    assert newcombe_paired(e, f, g, h) == pytest.approx((low, high), abs=1e-14)


def test_pairs_without_correlation_are_as_good_as_independent() -> None:
    """A margin of zero has no phi, so both methods are the same."""
    assert newcombe_paired(0, 0, 5, 7) == pytest.approx(newcombe_independent((0, 12), (5, 12)), abs=1e-14)


@pytest.mark.parametrize("part", range(13))
def test_turning_success_into_failure_mirrors_every_interval(part: int) -> None:
    for ours in (wilson, clopper_pearson):
        low, high = ours(part, 12) or (math.nan, math.nan)
        mirrored = ours(12 - part, 12)
        assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-14)
        assert 0 <= low <= part / 12 <= high <= 1
        assert high > low
    there, back = newcombe_independent((part, 12), (5, 9)), newcombe_independent((5, 9), (part, 12))
    assert there is not None
    assert back == pytest.approx((-there[1], -there[0]), abs=1e-14)


def test_the_exact_interval_covers_at_least_as_often_as_it_says() -> None:
    for whole in (1, 2, 9):
        bounds = [clopper_pearson(part, whole) for part in range(whole + 1)]
        for true in (0.001, 0.03, 0.2, 0.5, 0.77, 0.97):
            covered = sum(stats.binom.pmf(k, whole, true) for k, both in enumerate(bounds) if both and both[0] <= true <= both[1])
            assert covered >= 0.95 - 1e-12


def test_no_cases_have_no_interval() -> None:
    assert wilson(0, 0) is None
    assert clopper_pearson(0, 0) is None
    assert newcombe_independent((0, 0), (1, 2)) is None
    assert newcombe_paired(0, 0, 0, 0) is None


def test_a_design_effect_widens() -> None:
    low, high = wilson(30, 100) or (0, 0)
    wide = wilson(30 / 4, 100 / 4)
    assert wide is not None
    assert wide[0] < low < high < wide[1]


@pytest.mark.parametrize(("part", "whole"), [(-1, 3), (4, 3), (math.nan, 3), (1, math.nan), (1, math.inf)])
def test_counts_that_are_none_are_refused(part: float, whole: float) -> None:
    with pytest.raises(ValueError, match="is no proportion"):
        wilson(part, whole)
    with pytest.raises(ValueError, match="not negative"):
        newcombe_paired(1, -1, 2, 3)
