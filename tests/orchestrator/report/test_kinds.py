"""Every kind of measure: its value against others' implementations, its variance against its own resamples, in one form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, roc_auc_score

from orchestrator.report.kinds import KINDS, Measured
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.bootstrap import Counts, resample

CASES, PATIENTS = 240, 80


def scored(*, labels: int = 1, one_class: bool = False, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = (rng.random((CASES, labels)) < 0.3).astype(np.int8)
    if one_class:
        truth = np.eye(labels, dtype=np.int8)[rng.integers(0, labels, CASES)]
    units = np.array([f"{row:04d}" for row in range(CASES)], dtype=object)
    patients = np.array([f"p{row % PATIENTS:03d}" for row in range(CASES)], dtype=object)
    return Predictions(
        units=units,
        patients=patients,
        studies=patients,
        labels=tuple(f"label{index}" for index in range(labels)),
        truth=truth,
        score=np.round(1.2 * truth + rng.standard_normal(truth.shape), 1),
    )


def drawn(*, seed: int = 0, empty: float = 0.3) -> Masks:
    rng = np.random.default_rng(seed)
    true = rng.integers(50, 400, (CASES, 2)) * (rng.random((CASES, 2)) > empty)
    predicted = rng.integers(50, 400, (CASES, 2)) * (rng.random((CASES, 2)) > empty / 2)
    both = np.floor(np.minimum(true, predicted) * rng.random((CASES, 2))).astype(np.int64)
    distance = np.where((true > 0) & (predicted > 0), 30 * rng.random((CASES, 2)), np.nan)
    base = scored(labels=2)
    return Masks(
        units=base.units,
        patients=base.patients,
        studies=base.studies,
        labels=("heart", "lung"),
        truth=(true > 0).astype(np.int8),
        intersection=both,
        predicted=predicted,
        true=true,
        hd95=distance,
        diagonal=np.full(CASES, 90.0),
    )


def measured(name: str, frame: Any, *, by: str = "patient", replicates: int = 300) -> tuple[Measured, Counts, np.ndarray]:
    cluster = frame.clusters(by)
    counts = resample(int(cluster.max()) + 1, replicates)
    found = KINDS[name].of(frame, 0, cluster, counts)
    assert found is not None
    return found, counts, cluster


def repeated(frame: Any, cluster: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the rows of a resample, each as often as its cluster was drawn."""
    return np.repeat(np.arange(len(cluster)), times[cluster])


def sigmoid(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-score))


THEIRS = {
    "auroc": lambda frame, rows: roc_auc_score(frame.truth[rows, 0], frame.score[rows, 0]),
    "ap": lambda frame, rows: average_precision_score(frame.truth[rows, 0], frame.score[rows, 0]),
    "brier": lambda frame, rows: brier_score_loss(frame.truth[rows, 0], sigmoid(frame.score[rows, 0])),
    "accuracy": lambda frame, rows: accuracy_score(frame.truth[rows].argmax(axis=1), frame.score[rows].argmax(axis=1)),
}


@pytest.mark.parametrize("name", THEIRS)
def test_values_and_resamples_are_those_of_sklearn(name: str) -> None:
    frame = scored(labels=4, one_class=True, seed=3) if name == "accuracy" else scored(seed=3)
    found, counts, cluster = measured(name, frame, replicates=100)
    assert found.value == pytest.approx(THEIRS[name](frame, np.arange(CASES)), abs=1e-12)
    for replicate in range(0, 100, 9):
        rows = repeated(frame, cluster, counts.matrix()[:, replicate].astype(int))
        assert found.replicates[replicate] == pytest.approx(THEIRS[name](frame, rows), abs=1e-12)


def of_patients(frame: Masks, values: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    return {who: float(np.mean(values[rows][frame.patients[rows] == who])) for who in np.unique(frame.patients[rows].astype(str))}


def test_dice_is_of_images_with_the_structure_then_of_patients() -> None:
    frame = drawn()
    found, *_ = measured("dice", frame)
    dice = 2 * frame.intersection[:, 0] / np.maximum(frame.predicted[:, 0] + frame.true[:, 0], 1)
    inside = np.flatnonzero(frame.true[:, 0] > 0)
    by_patient = of_patients(frame, dice, inside)
    assert found.value == pytest.approx(np.mean(list(by_patient.values())), abs=1e-12)
    assert found.influence is not None
    spread = np.std(list(by_patient.values()), ddof=1) / np.sqrt(len(by_patient))
    assert np.sqrt((found.influence**2).sum()) == pytest.approx(spread, rel=1e-12)


def test_empty_on_empty_is_one_where_the_originals_count_it() -> None:
    frame = drawn(empty=0.6)
    found, *_ = measured("dice_as_published", frame)
    size = frame.predicted[:, 0] + frame.true[:, 0]
    dice = np.where(size == 0, 1.0, 2 * frame.intersection[:, 0] / np.maximum(size, 1))
    assert (size == 0).sum() > 20
    assert found.value == pytest.approx(np.mean(list(of_patients(frame, dice, np.arange(CASES)).values())), abs=1e-12)
    assert found.value > measured("dice", frame)[0].value


def test_pooled_dice_is_one_ratio_with_its_own_influence() -> None:
    frame = drawn()
    found, *_ = measured("dice_pooled", frame, by="image")
    both, size = frame.intersection[:, 0], (frame.predicted + frame.true)[:, 0]
    assert found.value == pytest.approx(2 * both.sum() / size.sum(), abs=1e-15)
    # science: influence_i = (2 I_i - Dice (P_i + T_i)) / mean(P + T), and the variance is its variance over n.
    theirs = (2 * both - found.value * size) / size.mean()
    assert found.influence is not None
    used = size > 0
    expected = np.sqrt((theirs[used] ** 2).sum() / (used.sum() - 1) * used.sum()) / CASES
    assert np.sqrt((found.influence**2).sum()) == pytest.approx(expected, rel=1e-12)


def test_a_structure_that_was_not_found_counts_the_diagonal() -> None:
    frame = drawn()
    found, *_ = measured("hd95", frame)
    assert frame.hd95 is not None
    there, missed = frame.true[:, 0] > 0, (frame.true[:, 0] > 0) & (frame.predicted[:, 0] == 0)
    distance = np.where(missed, 90.0, frame.hd95[:, 0])
    assert found.penalised == missed.sum() > 0
    assert found.value == pytest.approx(np.median(list(of_patients(frame, distance, np.flatnonzero(there)).values())), abs=1e-12)
    assert KINDS["hd95"].of(replace(frame, hd95=None, diagonal=None), 0, frame.clusters("patient"), resample(PATIENTS, 100)) is None


@pytest.mark.parametrize("name", ["auroc", "ap", "brier", "accuracy", "dice", "dice_as_published", "dice_pooled", "hd95"])
def test_variances_are_those_of_resamples(name: str) -> None:
    frame = drawn(seed=5) if name[:2] in ("di", "hd") else scored(labels=3, one_class=True, seed=5)
    found, *_ = measured(name, frame, replicates=2000)
    assert found.influence is not None
    assert np.sqrt((found.influence**2).sum()) == pytest.approx(np.nanstd(found.replicates, ddof=1), rel=0.1)


@pytest.mark.parametrize("name", KINDS)
def test_every_case_twice_is_every_case_once(name: str) -> None:
    """Copies inside a cluster say nothing new: neither the value nor its variance moves."""
    frame = drawn() if name[:2] in ("di", "hd") else scored(labels=2, one_class=True)
    twice = np.repeat(np.arange(CASES), 2)
    copied = frame.rows(twice)
    once, again = measured(name, frame)[0], measured(name, copied)[0]
    assert again.value == pytest.approx(once.value, abs=1e-12)
    assert once.influence is not None
    assert again.influence is not None
    np.testing.assert_allclose(again.influence, once.influence, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.frame is Predictions and not kind.pooled])
def test_what_cannot_be_said_is_none(name: str) -> None:
    frame = scored()
    counts = resample(PATIENTS, 100)
    unknown = replace(frame, truth=np.full_like(frame.truth, -1))
    assert KINDS[name].of(unknown, 0, frame.clusters("patient"), counts) is None
    one_patient = frame.rows(frame.patients == "p001")
    alone = KINDS[name].of(one_patient, 0, np.zeros(3, np.int64), resample(1, 100))
    assert alone is None or alone.influence is None


def test_constant_scores_are_called_so() -> None:
    frame = scored()
    flat = replace(frame, score=np.full_like(frame.score, 0.3))
    assert measured("auroc", flat)[0].constant
    assert measured("ap", flat)[0].constant
    assert not measured("auroc", frame)[0].constant
