"""Measures of masks against the true ones, and the long table that a report reads. Where a report has the same measure, it is the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainers.api import Overlaps

Floats = NDArray[np.float64]


def dice(overlaps: Overlaps) -> Floats:
    """Return the Dice coefficient of each image and structure, (n, L): 2 |A and B| / (|A| + |B|), 1 where both masks are empty."""
    size = overlaps.predicted + overlaps.true
    return np.where(size > 0, 2.0 * overlaps.intersection / np.maximum(size, 1), 1.0)


def measure(overlaps: Overlaps, *, prefix: str) -> dict[str, float]:
    """Measure masks: `<prefix>/dice` (of images that have the structure), `dice_as_published` (of all, two empty masks count 1),
    `dice_pooled` (of all pixels) and, where distances were measured, `hd95` (median; the diagonal where a structure was not found).

    Each is a mean over images of a patient first, then over patients (the median for hd95), and last over structures, whose own values are
    `<prefix>/<measure>/<structure>`. What no image can tell is absent. `loss` is the training loss, where it was measured.
    """
    found: dict[str, float] = {}
    each: dict[str, list[float]] = {}
    for column, name in enumerate(overlaps.structures):
        for kind, value in _of_structure(overlaps, column).items():
            found[f"{prefix}/{kind}/{name}"] = value
            each.setdefault(kind, []).append(value)
    found |= {f"{prefix}/{kind}": float(np.mean(values)) for kind, values in each.items()}
    if overlaps.loss is not None:
        found[f"{prefix}/loss"] = overlaps.loss
    return found


def _of_structure(overlaps: Overlaps, column: int) -> Mapping[str, float]:
    known = overlaps.known[:, column]
    there = known & (overlaps.true[:, column] > 0)
    patients, coefficients = overlaps.rows.patients, dice(overlaps)[:, column]
    found: dict[str, float] = {}
    if there.any():
        found["dice"] = float(np.mean(_by_patient(coefficients[there], patients[there])))
    if known.any():
        found["dice_as_published"] = float(np.mean(_by_patient(coefficients[known], patients[known])))
    size = (overlaps.predicted + overlaps.true)[known, column].sum()
    if size:
        found["dice_pooled"] = float(2.0 * overlaps.intersection[known, column].sum() / size)
    if overlaps.hd95 is not None and overlaps.diagonal is not None and there.any():
        missed = overlaps.predicted[:, column] == 0
        distances = np.where(missed, overlaps.diagonal, overlaps.hd95[:, column])
        found["hd95"] = float(np.median(_by_patient(distances[there], patients[there])))
    return found


def _by_patient(values: Floats, patients: NDArray[np.str_]) -> Floats:
    _, which = np.unique(patients, return_inverse=True)
    return np.bincount(which, values) / np.bincount(which)


def overlap_table(overlaps: Overlaps, traits: tuple[str, ...] = ()) -> pa.Table:
    """Return one row an image and annotated structure, in the order of the rows: image, patient, study, structure, counts of pixels and,
    where distances were measured, hd95 (null where a mask is empty) and the diagonal; `traits` are further columns.
    """
    at, column = np.nonzero(overlaps.known)
    rows = overlaps.rows.take(at)
    columns = {
        "image": pa.array(rows.images.tolist(), pa.string()),
        "patient": pa.array(rows.patients.tolist(), pa.string()),
        "study": pa.array(rows.studies.tolist(), pa.string()),
        "structure": pa.array([overlaps.structures[index] for index in column.tolist()], pa.string()),
        "intersection": pa.array(overlaps.intersection[at, column], pa.int64()),
        "predicted": pa.array(overlaps.predicted[at, column], pa.int64()),
        "true": pa.array(overlaps.true[at, column], pa.int64()),
    }
    if overlaps.hd95 is not None and overlaps.diagonal is not None:
        columns["hd95"] = pa.array(overlaps.hd95[at, column], pa.float64(), from_pandas=True)
        columns["diagonal"] = pa.array(overlaps.diagonal[at], pa.float64())
    columns |= {name: pa.array(rows.traits[name].tolist(), pa.string()) for name in traits}
    return pa.table(columns)
