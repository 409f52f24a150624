"""How hard the phantom is, fixed from supervised runs alone: the targets of docs/decisions/0006-phantom-difficulty.md."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.trainers.data.phantom.reference import MEASURED, Set, measured_set, reference_scores
from trainers.data.phantom.sources import FINDINGS

#: Where the supervised reference must lie with 2,000 labels, on the mean of two training seeds: one seed of pneumothorax may stray.
REFERENCE = {
    "effusion": (0.95, 1.0),
    "cardiomegaly": (0.85, 0.95),
    "consolidation": (0.85, 0.95),
    "edema": (0.85, 0.95),
    "pneumothorax": (0.70, 0.85),
    "nodule": (0.70, 0.85),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Set:
    return measured_set(tmp_path_factory.mktemp("measured") / "made")


def logistic(features: np.ndarray, data: Set, strengths: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    """Yield each finding and the best test AUROC over inverse penalties: an upper bound of what such a model reads."""
    for index, name in enumerate(FINDINGS):
        known = ~data.test & (data.labels[:, index] >= 0)
        best = 0.0
        for strength in strengths:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
            model.fit(features[known], data.labels[known, index])
            best = max(best, float(roc_auc_score(data.labels[data.test, index], model.decision_function(features[data.test]))))
        yield name, best


def thumbnails(data: Set) -> np.ndarray:
    """Return each image as 8 x 8 gray levels (n, 64)."""
    return np.stack([cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() for image in data.images]).astype(float)


def test_the_set_is_as_large_as_the_targets_say(data: Set) -> None:
    assert (~data.test).sum() == MEASURED.patients_train == 2000
    assert data.test.sum() == MEASURED.patients_valid >= 800
    assert data.images.shape[1:] == (96, 96)


def test_severity_separates(data: Set) -> None:
    for index, name in enumerate(FINDINGS):
        for part in (data.test, ~data.test):
            known = part & (data.labels[:, index] >= 0)
            assert roc_auc_score(data.labels[known, index], data.severities[known, index]) >= 0.97, name


def test_mean_and_spread_of_the_pixels_say_little(data: Set) -> None:
    flat = data.images.reshape(len(data.images), -1)
    features = np.stack([flat.mean(1), flat.std(1)], 1)
    for name, auroc in logistic(features, data, (1.0,)):
        assert auroc <= 0.60, name


def test_a_thumbnail_of_64_pixels_does_not_read_the_findings(data: Set) -> None:
    features = thumbnails(data)
    for name, auroc in logistic(features, data, (0.01, 0.1, 1.0)):
        assert auroc <= 0.85, name


@pytest.mark.slow
def test_the_supervised_reference_reads_each_finding_as_well_as_it_should(data: Set) -> None:
    runs = [reference_scores(data, seed=seed) for seed in (0, 1)]
    for name, (low, high) in REFERENCE.items():
        assert low <= np.mean([run[name] for run in runs]) <= high, (name, runs)


@pytest.mark.slow
def test_shuffled_labels_teach_a_network_nothing(data: Set) -> None:
    """The mean over findings: one network fitted to noise leans on whatever varies most, so a single finding strays far (edema: .34)."""
    scores = reference_scores(data, epochs=10, shuffled=True)
    assert abs(np.mean(list(scores.values())) - 0.5) < 0.05, scores


def test_shuffled_labels_teach_a_thumbnail_nothing(data: Set) -> None:
    """Over 20 permutations the mean is .5, whatever one permutation says."""
    features = thumbnails(data)
    rng = np.random.default_rng(0)
    train = ~data.test & (data.labels >= 0).all(axis=1)
    scores = []
    for _ in range(20):
        order = rng.permutation(np.flatnonzero(train))
        for index in range(len(FINDINGS)):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
            model.fit(features[train], data.labels[order, index])
            scores.append(roc_auc_score(data.labels[data.test, index], model.decision_function(features[data.test])))
    assert abs(np.mean(scores) - 0.5) < 0.03
