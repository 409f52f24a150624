"""Analytic variances against independent ones: pairs counted one by one, clusters summed by hand, resampling."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.report.stats.bootstrap import auroc_replicates, resample
from orchestrator.report.stats.influence import delong_covariance, influence, obuchowski_covariance


def made(seed: int, patients: int, images: int, models: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(patients), images)
    truth = (rng.random(patients * images) < 0.35).astype(np.int8)
    shared = np.repeat(rng.standard_normal(patients), images)
    scores = np.stack([np.round(truth + shared + rng.standard_normal(len(truth)), 1) for _ in range(models)])
    return truth, scores, cluster


def naive_delong(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """DeLong et al. (1988) with every pair written out."""
    kernels = [np.array([[(p > q) + 0.5 * (p == q) for q in s[truth == 0]] for p in s[truth == 1]], float) for s in scores]
    m, n = kernels[0].shape
    covariance = np.zeros((len(scores), len(scores)))
    for r, a in enumerate(kernels):
        for s, b in enumerate(kernels):
            v10 = sum((a[i].mean() - a.mean()) * (b[i].mean() - b.mean()) for i in range(m)) / (m - 1)
            v01 = sum((a[:, j].mean() - a.mean()) * (b[:, j].mean() - b.mean()) for j in range(n)) / (n - 1)
            covariance[r, s] = v10 / m + v01 / n
    return covariance


def test_delong_equals_pairs_counted_one_by_one() -> None:
    truth, scores, _ = made(1, 60, 1)
    areas, covariance = delong_covariance(truth, scores)
    np.testing.assert_allclose(covariance, naive_delong(truth, scores), rtol=1e-12)
    assert areas.shape == (2,)


def test_influence_values_of_single_cases_are_delong() -> None:
    truth, scores, cluster = made(2, 80, 1)
    moved = [influence(truth, score, cluster, 80) for score in scores]
    assert all(one is not None for one in moved)
    stacked = np.stack([one.values for one in moved if one is not None])
    np.testing.assert_allclose(stacked @ stacked.T, delong_covariance(truth, scores)[1], rtol=1e-12)


def test_obuchowski_of_single_cases_is_delong_but_for_nothing() -> None:
    truth, scores, cluster = made(3, 50, 1)
    np.testing.assert_allclose(obuchowski_covariance(truth, scores, cluster)[1], delong_covariance(truth, scores)[1], rtol=1e-12)


def test_obuchowski_equals_its_formula_written_out() -> None:
    truth, scores, cluster = made(4, 25, 3, models=1)
    score = scores[0]
    pos, neg = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    kernel = np.array([[(score[p] > score[q]) + 0.5 * (score[p] == score[q]) for q in neg] for p in pos], float)
    area, m, n = kernel.mean(), len(pos), len(neg)
    sums = [
        (
            sum(kernel[k].mean() - area for k, p in enumerate(pos) if cluster[p] == g),
            sum(kernel[:, k].mean() - area for k, q in enumerate(neg) if cluster[q] == g),
        )
        for g in range(25)
    ]
    i10, i01 = len({cluster[p] for p in pos}), len({cluster[q] for q in neg})
    by_hand = (
        i10 / ((i10 - 1) * m) * sum(p * p for p, _ in sums) / m
        + i01 / ((i01 - 1) * n) * sum(q * q for _, q in sums) / n
        + 2 * 25 / 24 * sum(p * q for p, q in sums) / (m * n)
    )
    assert obuchowski_covariance(truth, scores, cluster)[1][0, 0] == pytest.approx(by_hand, rel=1e-12)


def test_duplicating_images_inside_patients_changes_nothing_for_clusters_and_much_for_cases() -> None:
    truth, scores, cluster = made(5, 120, 2)
    tripled = np.repeat(truth, 3), np.repeat(scores, 3, axis=1), np.repeat(cluster, 3)
    once, thrice = obuchowski_covariance(truth, scores, cluster), obuchowski_covariance(*tripled)
    np.testing.assert_allclose(thrice[1], once[1], rtol=1e-12)
    a, b = influence(truth, scores[0], cluster, 120), influence(tripled[0], tripled[1][0], tripled[2], 120)
    assert a is not None
    assert b is not None
    np.testing.assert_allclose(b.values, a.values, atol=1e-15)
    ratio = delong_covariance(tripled[0], tripled[1])[1] / delong_covariance(truth, scores)[1]
    assert np.all((ratio > 0.3) & (ratio < 0.36))


def test_influence_and_obuchowski_differ_in_a_factor_of_the_cross_term_only() -> None:
    truth, scores, cluster = made(6, 200, 3)
    moved = influence(truth, scores[0], cluster, 200)
    assert moved is not None
    assert (moved.values**2).sum() == pytest.approx(obuchowski_covariance(truth, scores, cluster)[1][0, 0], rel=0.01)


def test_bootstrap_and_analytic_standard_errors_agree() -> None:
    truth, scores, cluster = made(7, 400, 2)
    counts = resample(400, 2000)
    moved = influence(truth, scores[0], cluster, 400)
    assert moved is not None
    drawn = auroc_replicates(truth, scores[0], cluster, counts)
    assert drawn.std(ddof=1) / np.sqrt((moved.values**2).sum()) == pytest.approx(1.0, abs=0.07)
    other = influence(truth, scores[1], cluster, 400)
    assert other is not None
    contrast = drawn - auroc_replicates(truth, scores[1], cluster, counts)
    assert contrast.std(ddof=1) / np.sqrt(((moved.values - other.values) ** 2).sum()) == pytest.approx(1.0, abs=0.07)


def test_one_positive_cluster_has_no_variance() -> None:
    truth = np.array([1, 1, 0, 0, 0])
    cluster = np.array([0, 0, 1, 2, 3])
    assert influence(truth, np.arange(5.0), cluster, 4) is None
    with pytest.raises(ValueError, match="two clusters"):
        obuchowski_covariance(truth, np.arange(5.0)[None], cluster)
    with pytest.raises(ValueError, match="two positives"):
        delong_covariance(np.array([1, 0, 0]), np.arange(3.0)[None])
