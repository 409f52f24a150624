"""Max-t against a loop written out, against the studentised range, and by how often equal arms are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats.multiplicity import holm
from orchestrator.report.stats.multireader import crossed, nested
from orchestrator.report.stats.simultaneous import (
    covariance_of_arms,
    covariance_of_pairs,
    critical_value,
    max_t,
    min_p,
    normal_scores,
    pairs,
)


def step_down_in_words(observed: np.ndarray, null: np.ndarray) -> list[float]:
    """Westfall & Young 1993, algorithm 2.8, one contrast at a time."""
    order = sorted(range(len(observed)), key=lambda j: -abs(observed[j]))
    adjusted, running = [0.0] * len(observed), 0.0
    for place, j in enumerate(order):
        rest = order[place:]
        count = sum(max(abs(row[k]) for k in rest) >= abs(observed[j]) for row in null)
        running = max(running, (1 + count) / (len(null) + 1))
        adjusted[j] = running
    return adjusted


def test_step_down_equals_the_algorithm_written_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        observed, null = rng.normal(0, 2, 6), rng.normal(0, 1, (99, 6)) + rng.normal(0, 1, (99, 1))
        assert max_t(observed, null).p_adjusted == pytest.approx(step_down_in_words(observed, null), abs=1e-15)


def test_one_contrast_needs_no_adjusting_but_the_sample() -> None:
    found = min_p(np.array([0.03]), np.array([[2.0]]))
    assert found.p_adjusted[0] == pytest.approx(0.03, abs=4 * np.sqrt(0.03 / 20_000))
    assert found.smallest_p == 1 / 20_001


def test_the_same_contrast_twice_costs_nothing_and_independent_ones_what_sidak_says() -> None:
    p = np.array([0.02, 0.02])
    same, apart = min_p(p, np.ones((2, 2))), min_p(p, np.eye(2))
    assert same.p_adjusted[0] == pytest.approx(0.02, abs=0.004)
    assert apart.p_adjusted[0] == pytest.approx(1 - 0.98**2, abs=0.006)
    assert apart.p_adjusted[0] <= holm([0.02, 0.02])[0] + 0.006


def test_all_pairs_of_equal_arms_are_tukeys_studentised_range() -> None:
    """Independent means of one variance: the largest difference over sqrt(2) is a studentised range (infinite df)."""
    null = normal_scores(covariance_of_pairs(np.eye(4), pairs(4)))
    assert critical_value(null, 0.95) == pytest.approx(stats.studentized_range.ppf(0.95, 4, np.inf) / np.sqrt(2), abs=0.03)
    for z in (2.0, 2.569, 3.0):
        raw = np.full(6, 2 * stats.norm.sf(z))
        expected = stats.studentized_range.sf(z * np.sqrt(2), 4, np.inf)
        assert min_p(raw, covariance_of_pairs(np.eye(4), pairs(4))).p_adjusted[0] == pytest.approx(expected, abs=0.006)


def test_scores_depend_on_the_seed_alone_and_have_the_correlations_asked_for() -> None:
    covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    drawn = normal_scores(covariance, seed=3)
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(0.5, abs=0.03)
    assert drawn.std(axis=0) == pytest.approx([1, 1], abs=0.02)
    assert (normal_scores(covariance, seed=3, replicates=50) == drawn[:50]).all()
    assert (normal_scores(covariance, seed=4, replicates=50) != drawn[:50]).all()


def test_the_covariance_of_arms_gives_each_contrast_the_variance_it_has_alone() -> None:
    rng = np.random.default_rng(1)
    values = [rng.normal(0.8, 0.02, 5) for _ in range(3)]
    influence = [0.003 * rng.standard_normal((5, 200)) for _ in range(3)]
    both = pairs(3)
    for matched, row in ((True, 0), (False, 1)):
        found = covariance_of_pairs(covariance_of_arms(values, influence, matched=matched), both)
        assert found == pytest.approx(found.T, rel=1e-12)
        assert np.linalg.eigvalsh(found).min() > -1e-12
        for index, (i, j) in enumerate(both):
            if matched:
                alone = crossed(values[i] - values[j], influence[i] - influence[j])
            else:
                alone = nested(values[i], influence[i], values[j], influence[j])
            assert found[index, index] == pytest.approx(alone.variance_patients + (alone.variance_draws or 0), rel=1e-10), row


def test_what_has_no_statistic_is_refused() -> None:
    with pytest.raises(ValueError, match="has no variance"):
        normal_scores(np.array([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="not between 0 and 1"):
        min_p(np.array([0.1, np.nan]), np.eye(2))
    with pytest.raises(ValueError, match="null replicates of shape"):
        max_t(np.array([1.0, 2.0]), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="not finite"):
        max_t(np.array([np.inf]), np.zeros((5, 1)))


def test_a_p_that_underflowed_is_as_small_as_can_be() -> None:
    assert min_p(np.array([0.0, 0.9]), np.eye(2), replicates=199).p_adjusted[0] == 1 / 200


def test_the_best_of_equal_arms_is_seldom_called_better() -> None:
    """Four equal arms, five matched draws, 120 patients: 250 repetitions; any pair below .05 is a false claim."""
    rng = np.random.default_rng(7)
    claimed, alone = 0, 0
    for _ in range(250):
        shared, draw = rng.standard_normal(120), rng.normal(0, 0.01, 5)
        influence = [0.002 * (shared + rng.standard_normal(120) + 0.4 * rng.standard_normal((5, 120))) for _ in range(4)]
        # What a patient sample does to each mean is the sum of its influence values.
        values = [0.8 + draw + rng.normal(0, 0.006, 5) + one.sum(axis=1) for one in influence]
        raw = []
        for i, j in pairs(4):
            found = crossed(values[i] - values[j], influence[i] - influence[j])
            ratio = abs(found.value) / np.sqrt(found.variance_both)
            raw.append(2 * stats.t.sf(ratio, found.df_both))
        of_pairs = covariance_of_pairs(covariance_of_arms(values, influence, matched=True), pairs(4))
        claimed += min(min_p(np.array(raw), of_pairs, replicates=999).p_adjusted) < 0.05
        alone += min(raw) < 0.05
    assert claimed / 250 <= 0.09
    assert alone / 250 >= 0.12
