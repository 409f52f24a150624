"""The bootstrap beside a scikit-learn loop, in one process and one thread: 1,000 resamples x 14 labels x 25,596 images.

The shape is that of the official NIH test list: 25,596 images of 2,797 patients, with its prevalences; scores are made. What is resampled
is the image, or the patient with all images. The loop calls `roc_auc_score` (or `average_precision_score`) with the weights of a resample,
which is faster than taking the rows; it runs four resamples before and four after, and its fastest stands for all. Ours is the fastest of
five rounds, from the drawing of counts to the last area. Seconds are of CPU, and ratios are of these two.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from orchestrator.report.stats.bootstrap import Engine, auroc_replicates, precision_replicates, resample
from tests.bench.rows import Row

IMAGES, PATIENTS, RESAMPLES, LOOPED, ROUNDS = 25_596, 2_797, 1_000, 4, 5
PREVALENCE = (0.128, 0.042, 0.182, 0.239, 0.069, 0.063, 0.022, 0.104, 0.071, 0.036, 0.043, 0.017, 0.045, 0.0034)
#: (what is resampled, engine, measure, how many times faster it should be).
SHAPES: tuple[tuple[str, Engine, str, int], ...] = (
    ("images", "numba", "AUROC", 500),
    ("patients", "numba", "AUROC", 1000),
    ("images", "numpy", "AUROC", 50),
    ("patients", "numpy", "AUROC", 50),
    ("patients", "numba", "average precision", 0),
    ("patients", "numpy", "average precision", 0),
)
MEASURES: dict[str, tuple[Callable[..., np.ndarray], Callable[..., float]]] = {
    "AUROC": (auroc_replicates, roc_auc_score),
    "average precision": (precision_replicates, average_precision_score),
}


def study() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return truth and score (images, labels) and the patient of each image, with few images for most patients and many for some."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0.0, 1.3, PATIENTS)
    patient = np.sort(np.concatenate([np.arange(PATIENTS), rng.choice(PATIENTS, IMAGES - PATIENTS, p=share / share.sum())]))
    truth = (rng.random((IMAGES, len(PREVALENCE))) < PREVALENCE).astype(np.int8)
    score = (rng.standard_normal((IMAGES, len(PREVALENCE))) + truth).astype(np.float32)
    return truth, score, patient


def looped(measure: Callable[..., float], truth: np.ndarray, score: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Return what scikit-learn says of some resamples (resamples, labels), and the seconds of the fastest one."""
    said, seconds = [], []
    for row in weight.T:
        start = time.process_time()
        said.append([measure(truth[:, label], score[:, label], sample_weight=row) for label in range(truth.shape[1])])
        seconds.append(time.process_time() - start)
    return np.array(said), min(seconds)


def ours(measure: Callable[..., np.ndarray], truth: np.ndarray, score: np.ndarray, unit: np.ndarray, engine: Engine) -> np.ndarray:
    """Return all replicates (resamples, labels)."""
    counts = resample(int(unit.max()) + 1, RESAMPLES, engine=engine)
    return np.stack([measure(truth[:, label], score[:, label], unit, counts) for label in range(truth.shape[1])], axis=1)


def resident(field: str) -> float:
    """Return this process's memory in MB: `VmRSS` now, or `VmHWM`, the most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


def forget_peak() -> None:
    """Let the most memory be what there is now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure() -> list[Row]:
    """Return a row a shape: seconds of ours and of the loop (extrapolated), their ratio, the largest difference and the memory."""
    truth, score, patient = study()
    units = {"images": np.arange(IMAGES), "patients": patient}
    rows = [loading()]
    # Loaded before memory is looked at: what loading takes stands in a row of its own.
    resample(2, 2, engine="numba")
    for what, engine, name, aim in SHAPES:
        kernel, loop = MEASURES[name]
        unit = units[what]
        weight = resample(int(unit.max()) + 1, 2 * LOOPED, engine="numpy").matrix()[unit]
        expected, before = looped(loop, truth, score, weight[:, :LOOPED])
        forget_peak()
        held, seconds = resident("VmRSS"), []
        for _ in range(ROUNDS):
            start = time.process_time()
            found = ours(kernel, truth, score, unit, engine)
            seconds.append(time.process_time() - start)
        extra = resident("VmHWM") - held
        more, after = looped(loop, truth, score, weight[:, LOOPED:])
        whole = min(before, after) * RESAMPLES
        apart = np.abs(found[: 2 * LOOPED] - np.concatenate([expected, more])).max()
        rows.append(
            Row(
                what=f"{name}, {what} resampled, {engine}",
                ours=f"{min(seconds) * 1000:,.0f} ms",
                beside=f"{whole:,.0f} s (scikit-learn in a loop, extrapolated from {2 * LOOPED} resamples)",
                against=f"{whole / min(seconds):,.0f} times faster" + (f"; aim {aim:,}" if aim else ""),
                note=f"{extra:.0f} MB more memory (aim 100); largest difference {apart:.0e}",
            )
        )
    return rows


def loading() -> Row:
    """Return what it costs a process to load the compiled kernels: once for each process, and compiled once for each machine."""
    code = (
        "import time, orchestrator.report.stats.bootstrap as b; from tests.bench.bench_bootstrap import resident; "
        "held, start = resident('VmRSS'), time.process_time(); b._kernels(); "
        "print(time.process_time() - start, resident('VmRSS') - held)"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command, environment = [sys.executable, "-c", code], {**os.environ, "NUMBA_CACHE_DIR": folder}
        cold, warm = (subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split() for _ in range(2))
    return Row(
        what="loading the compiled kernels",
        ours=f"{float(warm[0]):.2f} s",
        beside=f"{float(cold[0]):.1f} s (compiling them)",
        note=f"once a process, where a report has enough to do; {float(warm[1]):.0f} MB of memory",
    )
