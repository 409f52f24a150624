"""Intervals at and away from the edge, adjusted p values, and folds, against published or counted values."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from orchestrator.report.stats import intervals
from orchestrator.report.stats.folds import Held, chance, within_folds
from orchestrator.report.stats.multiplicity import benjamini_hochberg, holm


def test_newcombe_at_one_has_a_width() -> None:
    assert intervals.newcombe(1.0, 10, 658, 0.95) == (pytest.approx(0.9007, abs=5e-5), 1.0)
    assert intervals.newcombe(1.0, 2, 2998, 0.95) == (pytest.approx(0.612, abs=5e-4), 1.0)
    low, high = intervals.newcombe(0.0, 10, 658, 0.95)
    assert low == 0.0
    assert high == pytest.approx(1 - 0.9007, abs=5e-5)


@given(value=st.floats(0.05, 0.95), m=st.integers(3, 200), n=st.integers(3, 200))
def test_newcombe_ends_solve_its_equation(value: float, m: int, n: int) -> None:
    z = stats.norm.ppf(0.975)
    for end in intervals.newcombe(value, m, n, 0.95):
        spread = 1 + ((m + n) / 2 - 1) * ((1 - end) / (2 - end) + end / (1 + end))
        assert abs(value - end) == pytest.approx(z * math.sqrt(end * (1 - end) * spread / (m * n)), abs=1e-6)


def test_logit_intervals_stay_inside_and_raw_ones_are_t() -> None:
    low, high = intervals.on_logit(0.99, 0.02, 4, 0.95)
    assert 0 < low < 0.99 < high < 1
    assert intervals.raw(0.1, 0.02, 4, 0.95) == pytest.approx((0.1 - 2.7764 * 0.02, 0.1 + 2.7764 * 0.02), abs=1e-5)
    assert intervals.quantile(0.95, math.inf) == pytest.approx(1.959964, abs=1e-6)
    assert intervals.p_two_sided(2.7764451, 1.0, 4) == pytest.approx(0.05, abs=1e-6)
    with pytest.raises(ValueError, match="newcombe"):
        intervals.on_logit(1.0, 0.01, 4, 0.95)


def test_bootstrap_p_never_reaches_zero() -> None:
    assert intervals.p_bootstrap(np.full(999, 0.3)) == pytest.approx(2 / 1000)
    assert intervals.p_bootstrap(np.zeros(99)) == 1.0


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_bca_is_that_of_scipy_where_influence_and_jackknife_agree(confidence: float) -> None:
    # For a mean both are the distance from it; scipy jackknifes, so its interval is an independent one.
    values = np.random.default_rng(1).exponential(size=60)
    found = stats.bootstrap((values,), np.mean, n_resamples=3000, confidence_level=confidence, method="BCa", rng=np.random.default_rng(2))
    ends = intervals.bca(found.bootstrap_distribution, values.mean(), values - values.mean(), confidence)
    assert ends == pytest.approx((found.confidence_interval.low, found.confidence_interval.high), rel=1e-12)


def test_bca_counts_ties_half_and_is_none_where_it_has_no_meaning() -> None:
    symmetric = np.repeat([-1.0, 0.0, 1.0], 100)
    # No bias and no skewness: the percentile interval.
    assert intervals.bca(symmetric, 0.0, np.array([-1.0, 0.0, 1.0]), 0.95) == intervals.percentile(symmetric, 0.95)
    assert intervals.bca(symmetric, 2.0, np.array([-1.0, 1.0]), 0.95) is None
    assert intervals.bca(symmetric, 0.0, np.zeros(3), 0.95) is None
    assert intervals.bca(np.zeros(0), 0.0, np.array([-1.0, 1.0]), 0.95) is None


def test_holm_and_benjamini_hochberg_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def pairs(positive: list[float], negative: list[float], shift: float = 0.0) -> Held:
    """One fold for each pair of patients, every fold on a scale of its own."""
    rows = [
        (f"{i}-{j}", who, truth, score + shift * (i + 3 * j))
        for i, p in enumerate(positive)
        for j, q in enumerate(negative)
        for who, truth, score in ((f"p{i}", 1, p), (f"n{j}", 0, q))
    ]
    return Held(
        fold=np.array([r[0] for r in rows]),
        patient=np.array([r[1] for r in rows]),
        truth=np.array([r[2] for r in rows]),
        score=np.array([r[3] for r in rows]),
    )


def test_leave_pair_out_counts_pairs_whatever_the_scale_of_a_fold() -> None:
    positive, negative = [3.0, 1.0, 2.0], [0.0, 2.0]
    expected = np.mean([(p > q) + 0.5 * (p == q) for p in positive for q in negative])
    assert within_folds(pairs(positive, negative)) == (pytest.approx(expected), 6)
    assert within_folds(pairs(positive, negative, shift=100.0)) == (pytest.approx(expected), 6)


def test_the_chance_range_lists_every_assignment() -> None:
    positive, negative = [5.0, 6.0, 7.0, 8.0, 9.5, 10.0, 11.0], [0.0, 1.0, 2.0, 3.0, 4.0, 4.5, 9.0, 9.2]
    held = pairs(positive, negative)
    area, _ = within_folds(held) or (0.0, 0)
    found = chance(held, area, 0.95)
    assert found is not None
    assert found.assignments == math.comb(15, 7) == 6435
    assert found.exact
    scores = np.array(positive + negative)
    counted = []
    for chosen in combinations(range(15), 7):
        rest = np.setdiff1d(np.arange(15), chosen)
        counted.append((scores[list(chosen)][:, None] > scores[rest][None]).mean())
    assert found.p == pytest.approx(np.mean(np.abs(np.array(counted) - 0.5) >= area - 0.5 - 1e-12))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(counted, [0.025, 0.975])))


def test_a_patient_of_both_classes_has_no_assignment() -> None:
    held = Held(fold=np.array(["0", "0"]), patient=np.array(["a", "a"]), truth=np.array([1, 0]), score=np.array([1.0, 0.0]))
    assert chance(held, 1.0, 0.95) is None
    assert within_folds(held) == (1.0, 1)


def test_many_patients_are_sampled_by_counter() -> None:
    rng = np.random.default_rng(0)
    held = Held(
        fold=np.repeat("0", 40), patient=np.array([f"p{i}" for i in range(40)]), truth=np.arange(40) % 2, score=rng.standard_normal(40)
    )
    first, again = chance(held, 0.7, 0.95), chance(held, 0.7, 0.95)
    assert first == again
    assert first is not None
    assert not first.exact
    assert 0.28 < first.low < 0.36
