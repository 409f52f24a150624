"""Truths and predictions as plain arrays, in the files that UniChest's test leaves: `gt.npy`, `pred.npy` and `result.csv`."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.api import Scores
from trainers.data.policies import truths
from trainers.parts.metrics import auroc

#: What `gt.npy` has where a truth is not known, as in UniChest's tables.
UNKNOWN = -1.0


def write_arrays(scores: Scores, labels: tuple[str, ...], policies: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Write the arrays of the units that were scored into `<folder>/<card>/`, and return what a result says of them.

    `gt.npy` (n, C) float32: 1, 0, or -1 where the truth is unknown. `pred.npy` (n, C) float32: probabilities. `result.csv`: a row `AUC` by
    label and their mean, empty where a label has not both classes. `images.txt`: the id of each row, a line each (UniChest's
    `engine/test.py` has no ids).
    """
    known = truths(scores.rows, policies)[:, [scores.rows.label_names.index(label) for label in labels]]
    logits = scores.logits[:, [scores.labels.index(label) for label in labels]].astype(np.float64)
    truth = np.where(np.isnan(known), UNKNOWN, known).astype(np.float32)
    found = {
        "gt.npy": _array(truth),
        "pred.npy": _array(np.exp(-np.logaddexp(0.0, -logits)).astype(np.float32)),
        "result.csv": _areas(known, logits, labels),
        "images.txt": "".join(f"{image}\n" for image in scores.rows.images.tolist()).encode(),
    }
    here = folder / scores.rows.card
    here.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        _write(here / name, content)
    digest = hashlib.sha256(b"".join(found.values()))
    return {"files": sorted(found), "shape": list(truth.shape), "digest": digest.hexdigest()}


def _array(values: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.getvalue()


def _areas(known: NDArray[np.floating], logits: NDArray[np.float64], labels: tuple[str, ...]) -> bytes:
    areas = [auroc(known[:, column], logits[:, column]) for column in range(len(labels))]
    there = [area for area in areas if area is not None]
    cells = ["" if area is None else repr(area) for area in (*areas, float(np.mean(there)) if there else None)]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([["metric", *labels, "mean"], ["AUC", *cells]])
    return file.getvalue().encode()


def _write(path: Path, content: bytes) -> None:
    """Write aside, fsync and rename."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
