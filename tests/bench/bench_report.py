"""The whole report of a large study, from predictions on disk to its files: 100 runs x 14 labels x 2,000 patient resamples, one thread.

Two arms x 5 sizes x 10 matched draws on one test set of 25,173 images of 2,797 patients, as large as the official NIH test list;
predictions are made, and written before the clock starts. What is measured is what `orchestrate report` does: reading, resampling,
contrasts, figures and every file of the report. Seconds are of CPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.spec import JobSpec
from orchestrator.model import AxisKind, Contrast, Plan
from orchestrator.report.analysis import build
from orchestrator.report.provenance import provenance
from orchestrator.report.render import write
from tests.bench.bench_bootstrap import PREVALENCE, forget_peak, resident
from tests.bench.rows import Row
from tests.orchestrator.report.made_run import Made

PATIENTS, IMAGES_EACH, SIZES, DRAWS, RESAMPLES = 2_797, 9, (64, 256, 1024, 4096, 16384), 10, 2_000
LABELS = (
    "atelectasis",
    "cardiomegaly",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
    "consolidation",
    "edema",
    "emphysema",
    "fibrosis",
    "pleural_thickening",
    "hernia",
)


class Study(Made):
    """A made study whose predictions are written fast: the texts of a file are the same in every run, so they are made once."""

    def predict(
        self, evaluate: JobSpec, score: np.ndarray, *, shuffle: int | None = None, rows: np.ndarray | None = None, **result: Any
    ) -> None:
        """Write predictions as the evaluate stage does, and leave the rest to the made run."""
        if not hasattr(self, "texts"):
            repeated = {name: np.tile(getattr(self, name), len(self.labels)).tolist() for name in ("image", "patient", "study")}
            self.texts: Mapping[str, pa.Array] = {
                **{name: pa.array(values) for name, values in repeated.items()},
                "label": pa.array(np.repeat(self.labels, len(self.image)).tolist()),
            }
        folder = self.run.job(evaluate.job_id).folder
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table({**self.texts, "truth": self.truth.T.ravel(), "score": score.T.ravel()})
        pq.write_table(table, self.run.job(evaluate.job_id).predictions, compression="zstd")
        self.result(evaluate, np.arange(len(self.image)), **result)


def study(root: Path) -> tuple[Made, Plan]:
    """Write the predictions of all runs; return them and their plan."""
    made = Study(root, patients=PATIENTS, images_per_patient=IMAGES_EACH, labels=LABELS, prevalence=PREVALENCE)
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("count", AxisKind.REPLICATE, SIZES)
    made.axis("draw", AxisKind.REPLICATE, tuple(range(DRAWS)))
    for after in ("pretrain", "none"):
        for index, count in enumerate(SIZES):
            for draw in range(DRAWS):
                labels = {"after": after, "count": count, "draw": draw, "target": "nih"}
                made.evaluation("finetune", labels, separation=(1.0 if after == "pretrain" else 0.7) + 0.2 * index)
    return made, made.plan(contrasts=(Contrast(baseline={"after": "none"}),), resamples=RESAMPLES)


def measure() -> list[Row]:
    """Return the seconds of reading and computing, of writing, and of both, with the memory that they took."""
    with tempfile.TemporaryDirectory(prefix="bench-report-") as folder:
        made, plan = study(Path(folder))
        forget_peak()
        held, start, wall = resident("VmRSS"), time.process_time(), time.perf_counter()
        report = build(plan, made.run)
        built = time.process_time()
        page = write(report, made.run.sweep(plan.sweep).report, provenance(plan, made.run))
        done = time.process_time()
        wall = time.perf_counter() - wall
        files = [one for one in page.parent.rglob("*") if one.is_file()]
        size = page.stat().st_size / 1e6
    runs = 2 * len(SIZES) * DRAWS
    return [
        Row(
            what=f"{runs} runs x {len(LABELS)} labels x {RESAMPLES:,} resamples",
            ours=f"{done - start:.1f} s",
            against="aim 30 s",
            note=f"{wall:.1f} s of wall; {resident('VmHWM') - held:.0f} MB more memory",
        ),
        Row(
            what="reading, resampling, intervals and contrasts",
            ours=f"{built - start:.1f} s",
            note=f"{len(report.cells + report.label_cells)} cells, {len(report.differences + report.label_differences)} differences",
        ),
        Row(what="figures, tables and files", ours=f"{done - built:.1f} s", note=f"{len(files)} files; the page has {size:.1f} MB"),
    ]
