"""Ratios and medians over clusters: against physically repeated clusters, textbook formulas, and their own resamples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats.bootstrap import resample
from orchestrator.report.stats.medians import median
from orchestrator.report.stats.ratios import ratio, resampled_sums


def test_a_resample_is_the_ratio_of_repeated_clusters() -> None:
    rng = np.random.default_rng(0)
    above, below = rng.random(23), rng.integers(0, 4, 23).astype(float)
    counts = resample(23, 150, seed=4)
    found = ratio(above, below, counts)
    assert found is not None
    for replicate, times in enumerate(counts.matrix().T):
        rows = np.repeat(np.arange(23), times)
        assert found.replicates[replicate] == pytest.approx(above[rows].sum() / below[rows].sum(), rel=1e-12)
    assert resampled_sums(above[None], counts).shape == (1, 150)


def test_with_one_case_a_cluster_it_is_the_standard_error_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(size=40)
    found = ratio(values, np.ones(40), resample(40, 100))
    assert found is not None
    assert found.influence is not None
    assert found.value == pytest.approx(values.mean())
    assert np.sqrt((found.influence**2).sum()) == pytest.approx(stats.sem(values), rel=1e-12)


def test_influence_is_the_spread_of_resamples() -> None:
    rng = np.random.default_rng(2)
    below = rng.integers(1, 6, 400).astype(float)
    above = rng.binomial(below.astype(int), rng.beta(4, 2, 400)).astype(float)
    found = ratio(above, below, resample(400, 4000))
    assert found is not None
    assert found.influence is not None
    assert np.sqrt((found.influence**2).sum()) == pytest.approx(found.replicates.std(ddof=1), rel=0.04)


def test_a_cluster_that_says_nothing_changes_nothing() -> None:
    above, below = np.array([1.0, 0.0, 2.0]), np.array([2.0, 1.0, 2.0])
    plain = ratio(above, below, resample(3, 100))
    padded = ratio(np.append(above, 0.0), np.append(below, 0.0), resample(4, 100))
    assert plain is not None
    assert padded is not None
    assert plain.influence is not None
    assert padded.influence is not None
    assert (plain.value, plain.clusters) == (padded.value, padded.clusters)
    assert padded.influence.tolist() == [*plain.influence.tolist(), 0.0]


def test_nothing_and_one_cluster_have_no_variance() -> None:
    assert ratio(np.zeros(3), np.zeros(3), resample(3, 100)) is None
    alone = ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]), resample(2, 100))
    assert alone is not None
    assert (alone.value, alone.influence, alone.clusters) == (0.5, None, 1)
    assert np.isnan(alone.replicates).any()
    assert set(alone.replicates[np.isfinite(alone.replicates)]) == {0.5}


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_a_median_in_a_resample_is_that_of_repeated_clusters(size: int) -> None:
    rng = np.random.default_rng(size)
    values = np.round(rng.random(size), 1)
    with_gap = np.append(values, np.nan)
    counts = resample(size + 1, 200, seed=size)
    found = median(with_gap, counts)
    assert found is not None
    assert found.value == np.median(values)
    for replicate, times in enumerate(counts.matrix().T):
        rows = np.repeat(np.arange(size), times[:size])
        expected = np.median(values[rows]) if len(rows) else np.nan
        assert found.replicates[replicate] == pytest.approx(expected, nan_ok=True, abs=1e-15)
    assert median(np.full(3, np.nan), resample(3, 100)) is None


def test_the_spread_of_a_median_is_its_bootstrap_variance() -> None:
    rng = np.random.default_rng(3)
    pair = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 120).T
    counts = resample(120, 3000)
    first, second = (median(one, counts) for one in pair)
    assert first is not None
    assert second is not None
    assert first.spread @ second.spread == pytest.approx(np.cov(first.replicates, second.replicates)[0, 1], rel=1e-9)
