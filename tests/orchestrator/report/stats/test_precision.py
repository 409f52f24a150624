"""Average precision against scikit-learn, its variance against finite differences, the jackknife and resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from orchestrator.report.stats.bootstrap import Engine, precision_replicates, resample
from orchestrator.report.stats.precision import average_precision, boyd, precision_influence
from orchestrator.report.stats.ranking import auroc


def cases(seed: int, count: int, share: float = 0.3, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < share).astype(np.int8)
    truth[:4] = (1, 0, 1, 0)
    return truth, np.round(rng.standard_normal(count) + truth, digits), rng


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(4, 120), share=st.sampled_from([0.05, 0.5, 0.95]), digits=st.sampled_from([12, 1, 0])
)
def test_areas_and_precision_are_those_of_scikit_learn_for_any_weights(seed: int, count: int, share: float, digits: int) -> None:
    truth, score, rng = cases(seed, count, share, digits)
    for weight in (None, rng.integers(0, 4, count), rng.random(count), 10.0 ** rng.uniform(-4, 4, count)):
        if weight is not None:
            weight[:2] += 1
        assert average_precision(truth, score, weight) == pytest.approx(
            average_precision_score(truth, score, sample_weight=weight), abs=1e-12
        )
        assert auroc(truth, score, weight) == pytest.approx(roc_auc_score(truth, score, sample_weight=weight), abs=1e-12)


def test_whole_weights_equal_repeated_rows() -> None:
    truth, score, rng = cases(1, 300)
    counts = rng.integers(0, 5, 300)
    repeated = average_precision(np.repeat(truth, counts), np.repeat(score, counts))
    assert average_precision(truth, score, counts) == pytest.approx(repeated, abs=1e-15)


def test_without_positives_there_is_no_number_and_never_zero() -> None:
    score = np.arange(4.0)
    assert average_precision(np.zeros(4, int), score) is None
    assert average_precision(np.array([1, 0, 0, 0]), score, np.array([0, 1, 1, 1])) is None
    assert average_precision(np.zeros(0, int), np.zeros(0)) is None
    assert average_precision(np.ones(4, int), score) == 1.0
    counts = resample(4, 100)
    assert np.isnan(precision_replicates(np.zeros(4, int), score, np.arange(4), counts)).all()
    one = precision_replicates(np.array([1, 0, 0, 0]), score, np.arange(4), counts)
    drawn = counts.matrix()[0] > 0
    assert (np.isnan(one) == ~drawn).all()
    assert (one[drawn] > 0).all()
    for kind in (average_precision, auroc):
        for bad in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match="negative or not finite"):
                kind(np.array([0, 1]), np.array([0.0, 1.0]), np.array([1.0, bad]))


def test_constant_scores_give_the_prevalence_and_perfect_ones_one() -> None:
    truth, score, _ = cases(2, 100)
    assert average_precision(truth, np.zeros(100)) == pytest.approx(truth.mean(), abs=1e-15)
    assert average_precision(truth, truth + 0.0) == 1.0
    assert average_precision(truth, np.exp(score / 3)) == average_precision(truth, score)


@pytest.mark.parametrize("engine", ["numpy", pytest.param("numba", marks=pytest.mark.needs("numba"))])
def test_replicates_equal_scikit_learn_with_and_without_ties(engine: Engine) -> None:
    rng = np.random.default_rng(3)
    unit = np.sort(rng.integers(0, 90, 500))
    truth = (rng.random(500) < 0.15).astype(np.int8)
    counts = resample(90, 70, engine=engine)
    for digits in (12, 1):
        score = np.round(rng.standard_normal(500) + truth, digits)
        drawn = precision_replicates(truth, score, unit, counts)
        for replicate, weight in enumerate(counts.matrix()[unit].T):
            assert drawn[replicate] == pytest.approx(average_precision_score(truth, score, sample_weight=weight), abs=1e-12)


@pytest.mark.parametrize("digits", [12, 1, 0])
def test_influence_values_are_derivatives_by_weight(digits: int) -> None:
    truth, score, _ = cases(4, 60, digits=digits)
    moved = precision_influence(truth, score, np.arange(60), 60)
    assert moved is not None
    step = 1e-5
    for case in range(60):
        ends = [np.where(np.arange(60) == case, 1 + sign * step, 1.0) for sign in (1, -1)]
        up, down = (average_precision(truth, score, end) or 0.0 for end in ends)
        assert moved.values[case] == pytest.approx(math.sqrt(60 / 59) * (up - down) / (2 * step), abs=1e-8)
    assert moved.values.sum() == pytest.approx(0.0, abs=1e-12)


def test_its_variance_is_that_of_the_jackknife_and_of_resampling_patients() -> None:
    rng = np.random.default_rng(5)
    cluster = np.sort(rng.integers(0, 400, 1000))
    cluster = np.unique(cluster, return_inverse=True)[1]
    groups = cluster.max() + 1
    truth = (rng.random(groups) < 0.25)[cluster].astype(np.int8)
    score = np.round(truth + rng.standard_normal(groups)[cluster] + rng.standard_normal(1000), 2)
    moved = precision_influence(truth, score, cluster, groups)
    assert moved is not None
    se = math.sqrt((moved.values**2).sum())
    left = np.array([average_precision(truth[cluster != g], score[cluster != g]) or 0.0 for g in range(groups)])
    jackknife = math.sqrt((groups - 1) / groups * ((left - left.mean()) ** 2).sum())
    assert se / jackknife == pytest.approx(1.0, abs=0.03)
    drawn = precision_replicates(truth, score, cluster, resample(groups, 2000))
    assert se / drawn.std(ddof=1) == pytest.approx(1.0, abs=0.1)
    # As if images were independent it would be too small.
    alone = precision_influence(truth, score, np.arange(1000), 1000)
    assert alone is not None
    assert math.sqrt((alone.values**2).sum()) < 0.9 * se


def test_repeating_images_inside_patients_changes_nothing() -> None:
    truth, score, rng = cases(6, 200)
    cluster = np.sort(rng.integers(0, 70, 200))
    once = precision_influence(truth, score, cluster, 70)
    thrice = precision_influence(np.repeat(truth, 3), np.repeat(score, 3), np.repeat(cluster, 3), 70)
    order = rng.permutation(200)
    shuffled = precision_influence(truth[order], score[order], cluster[order], 70)
    assert once is not None
    for other in (thrice, shuffled):
        assert other is not None
        assert other.value == pytest.approx(once.value, abs=1e-15)
        np.testing.assert_allclose(other.values, once.values, atol=1e-14)
    assert precision_influence(np.array([1, 1, 0, 0]), np.arange(4.0), np.array([0, 0, 1, 2]), 3) is None


def test_boyd_is_its_formula_and_is_refused_at_the_edge() -> None:
    low, high = boyd(0.4, 50, 0.95)
    half = stats.norm.ppf(0.975) / math.sqrt(50 * 0.4 * 0.6)
    assert (low, high) == (pytest.approx(1 / (1 + 1.5 * math.exp(half))), pytest.approx(1 / (1 + 1.5 * math.exp(-half))))
    assert boyd(0.4, 5000, 0.95)[0] > low
    for value, positives in ((1.0, 10), (0.0, 10), (0.5, 0)):
        with pytest.raises(ValueError, match="resample instead"):
            boyd(value, positives, 0.95)
