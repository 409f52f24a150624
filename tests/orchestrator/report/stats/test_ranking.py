"""Areas equal scikit-learn's, ties and weights included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from orchestrator.report.stats.ranking import auroc, placements


def cases(seed: int, n: int, digits: int | None) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(np.int8)
    truth[:2] = (0, 1)
    score = rng.standard_normal(n) + 0.7 * truth
    return truth, (score if digits is None else np.round(score, digits)), rng


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 300), digits=st.sampled_from([None, 1, 0]))
def test_areas_equal_sklearn_with_ties_and_weights(seed: int, n: int, digits: int | None) -> None:
    truth, score, rng = cases(seed, n, digits)
    placed = placements(truth, score)
    assert placed is not None
    assert placed.auroc == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
    assert auroc(truth, score) == placed.auroc
    counts = rng.integers(0, 4, n)
    counts[:2] = 1
    assert auroc(truth, score, counts) == pytest.approx(roc_auc_score(truth, score, sample_weight=counts), abs=1e-12)
    weight = rng.random(n)
    assert auroc(truth, score, weight) == pytest.approx(roc_auc_score(truth, score, sample_weight=weight), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(3, 60))
def test_placement_values_average_to_the_area_in_both_classes(seed: int, n: int) -> None:
    truth, score, _ = cases(seed, n, 1)
    placed = placements(truth, score)
    assert placed is not None
    naive = [[1.0 if p > q else 0.5 if p == q else 0.0 for q in score[truth == 0]] for p in score[truth == 1]]
    np.testing.assert_allclose(placed.positive, np.mean(naive, axis=1), atol=1e-14)
    np.testing.assert_allclose(placed.negative, np.mean(naive, axis=0), atol=1e-14)


def test_a_missing_class_is_none_and_not_a_number() -> None:
    assert placements(np.ones(4, int), np.arange(4.0)) is None
    assert auroc(np.zeros(4, int), np.arange(4.0)) is None
    assert auroc(np.array([0, 1]), np.array([0.0, 1.0]), np.array([0, 3])) is None


def test_integer_weights_equal_repeated_rows_exactly() -> None:
    truth, score, rng = cases(5, 200, 1)
    counts = rng.integers(0, 5, 200)
    assert auroc(truth, score, counts) == auroc(np.repeat(truth, counts), np.repeat(score, counts))
