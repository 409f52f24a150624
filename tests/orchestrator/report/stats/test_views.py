"""The interquartile mean and the probability of improvement against scipy, and what they do with nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats.views import interquartile_mean, probability_of_improvement


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 70])
def test_the_middle_half_is_scipys_trimmed_mean(count: int) -> None:
    values = np.random.default_rng(count).normal(0.8, 0.1, count)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-14)


def test_one_collapsed_run_moves_a_mean_and_not_the_middle() -> None:
    values = np.full((5, 8), 0.8)
    values[2] = 0.5
    assert interquartile_mean(values) == pytest.approx(0.8)
    assert values.mean() == pytest.approx(0.74)


def test_improvement_is_mann_whitneys_share_averaged_over_labels() -> None:
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(0.82, 0.03, (5, 6)), 2), np.round(rng.normal(0.80, 0.03, (4, 6)), 2)
    expected = np.mean([stats.mannwhitneyu(a[:, k], b[:, k]).statistic / 20 for k in range(6)])
    found = probability_of_improvement(a, b)
    assert found == pytest.approx(expected, abs=1e-14)
    assert probability_of_improvement(b, a) == pytest.approx(1 - expected, abs=1e-14)
    assert probability_of_improvement(a, a) == pytest.approx(0.5, abs=1e-14)


def test_nothing_has_no_value_and_what_is_not_finite_is_refused() -> None:
    assert interquartile_mean(np.array([])) is None
    assert probability_of_improvement(np.zeros((0, 3)), np.zeros((2, 3))) is None
    with pytest.raises(ValueError, match="1 values are not finite"):
        interquartile_mean(np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match="runs by labels"):
        probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 4)))
