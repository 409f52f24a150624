"""Predictions that a test writes itself, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv
from pyarrow import parquet as pq


def scores(
    separation: float,
    *,
    seed: int,
    cases: int = 160,
    images_a_patient: int = 1,
    prevalence: float = 0.3,
    labels: tuple[str, ...] = ("edema",),
) -> dict[str, np.ndarray]:
    """Make the columns of one run: the truths are the same for every run, the scores a signal and noise of the run's own."""
    fixed, own = np.random.default_rng(99), np.random.default_rng(seed)
    rows = np.arange(cases)
    parts: list[dict[str, np.ndarray]] = []
    for label in labels:
        truth = (fixed.random(cases) < prevalence).astype(np.int64)
        shared = fixed.standard_normal(cases)
        parts.append(
            {
                "image": np.array([f"{row:04d}" for row in rows]),
                "patient": np.array([f"p{row // images_a_patient}" for row in rows]),
                "label": np.full(cases, label),
                "truth": truth,
                "score": separation * truth + 0.7 * shared + 0.7 * own.standard_normal(cases),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def joined(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Put columns below each other."""
    return {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}


def having(columns: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Add columns, each of one value or as long as the others; None takes a column away."""
    rows = len(next(iter(columns.values())))
    found = {**columns, **{name: value if np.ndim(value) else np.full(rows, value) for name, value in more.items() if value is not None}}
    return {name: value for name, value in found.items() if not (name in more and more[name] is None)}


def write(path: Path, columns: Mapping[str, Any], order: int | None = None) -> Path:
    """Write CSV or parquet by the file's name, the rows in a random order when `order` is a seed."""
    table = pa.table({name: pa.array(np.asarray(values).tolist()) for name, values in columns.items()})
    if order is not None:
        table = table.take(np.random.default_rng(order).permutation(table.num_rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    (csv.write_csv if path.suffix == ".csv" else pq.write_table)(table, path)
    return path
