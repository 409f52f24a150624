"""The patient bootstrap beside a scikit-learn loop, in one process and one thread: 1,000 resamples x 14 labels.

The shape is that of the official NIH test list: 25,596 images of 2,797 patients, with its prevalences; scores are made.
The loop is measured on a few resamples before and after, and extrapolated.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn.metrics import roc_auc_score

from orchestrator.report.stats.bootstrap import auroc_replicates, resample
from tests.bench.rows import Row

IMAGES, PATIENTS, RESAMPLES, LOOPED = 25_596, 2_797, 1_000, 2
PREVALENCE = (0.128, 0.042, 0.182, 0.239, 0.069, 0.063, 0.022, 0.104, 0.071, 0.036, 0.043, 0.017, 0.045, 0.0034)


def study() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth and score (images, labels) and the patient of each image, with few images for most patients and many for some."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0.0, 1.3, PATIENTS)
    patient = np.sort(np.concatenate([np.arange(PATIENTS), rng.choice(PATIENTS, IMAGES - PATIENTS, p=share / share.sum())]))
    truth = (rng.random((IMAGES, len(PREVALENCE))) < PREVALENCE).astype(np.int8)
    score = (rng.standard_normal((IMAGES, len(PREVALENCE))) + truth).astype(np.float32)
    return truth, score, patient


def looped(truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return areas (resamples, labels), one call each."""
    columns = range(truth.shape[1])
    return np.array([[roc_auc_score(truth[:, label], score[:, label], sample_weight=row) for label in columns] for row in weight.T])


def measure() -> list[Row]:
    """Return seconds of the kernel and of the loop (extrapolated), their ratio and the largest difference."""
    truth, score, patient = study()
    weight = resample(PATIENTS, LOOPED).matrix()[patient]
    start = time.perf_counter()
    expected = looped(truth, score, weight)
    before = time.perf_counter() - start
    start = time.perf_counter()
    counts = resample(PATIENTS, RESAMPLES)
    drawn = time.perf_counter() - start
    areas = np.stack([auroc_replicates(truth[:, label], score[:, label], patient, counts) for label in range(truth.shape[1])], axis=1)
    kernel = time.perf_counter() - start
    start = time.perf_counter()
    looped(truth, score, weight)
    loop = (before + time.perf_counter() - start) / 2 / LOOPED * RESAMPLES
    return [
        Row(
            what=f"{RESAMPLES:,} resamples x {len(PREVALENCE)} labels",
            ours=f"{kernel:.2f} s",
            beside=f"{loop:,.0f} s (scikit-learn in a loop, extrapolated from {2 * LOOPED} resamples)",
            against=f"{loop / kernel:.0f} times faster",
            note=f"counts take {drawn:.3f} s; largest difference of an area {np.abs(areas[:LOOPED] - expected).max():.0e}",
        )
    ]
