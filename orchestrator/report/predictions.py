"""Predictions from disk: one matrix of scores a run, all on the same rows, or a refusal that names the run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import ReportError

COLUMNS = ("image", "patient", "study", "label", "truth", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What one run said of one test set: `units` ascending, `labels` ascending, matrices of shape (units, labels)."""

    units: np.ndarray
    patients: np.ndarray
    studies: np.ndarray
    labels: tuple[str, ...]
    #: int8: 1, 0, or -1 where the truth is not known.
    truth: np.ndarray
    #: float32; NaN where the truth is not known.
    score: np.ndarray

    def clusters(self, by: str) -> np.ndarray:
        """Return the cluster of each unit as codes from 0, in the order of the sorted ids. `by` is patient, study or image."""
        ids = {"patient": self.patients, "study": self.studies, "image": self.units}[by]
        return np.unique(ids, return_inverse=True)[1]

    def only(self, labels: Sequence[str]) -> Predictions:
        """Return these labels alone, and the units with a known truth of any of them."""
        columns = [self.labels.index(label) for label in labels]
        rows = (self.truth[:, columns] >= 0).any(axis=1)
        return Predictions(
            units=self.units[rows],
            patients=self.patients[rows],
            studies=self.studies[rows],
            labels=tuple(labels),
            truth=self.truth[rows][:, columns],
            score=self.score[rows][:, columns],
        )

    def frame_digest(self) -> str:
        """Return a digest of everything but the scores: two runs are compared only on the same frame."""
        digest = hashlib.sha256("\x1f".join(self.labels).encode())
        for ids in (self.units, self.patients, self.studies):
            digest.update("\x1f".join(ids.tolist()).encode())
        digest.update(np.ascontiguousarray(self.truth).tobytes())
        return digest.hexdigest()


def read_predictions(path: Path, name: str) -> Predictions:
    """Read a long table of predictions into matrices, whatever the order of its rows.

    `name` is what errors call the run. Raises ReportError on a missing column, a truth other than 0 and 1, a score that is not finite, a
    unit that two patients share, or the same (unit, label) twice.
    """
    table = _table(path, name)
    units, unit = _codes(table.column("image"))
    labels, label = _codes(table.column("label"))
    truth = table.column("truth").to_numpy().astype(np.int64)
    score = table.column("score").to_numpy().astype(np.float32)
    if not np.isin(truth, (0, 1)).all():
        raise ReportError(f"predictions of {name}: a truth is neither 0 nor 1; leave rows without a known truth out, then evaluate again")
    if not np.isfinite(score).all():
        raise ReportError(f"predictions of {name}: {int((~np.isfinite(score)).sum())} scores are not finite; look at the training run")
    place = unit * len(labels) + label
    if len(np.unique(place)) < len(place):
        raise ReportError(f"predictions of {name}: a unit is scored twice for one label; delete the file and evaluate again")
    truths = np.full(len(units) * len(labels), -1, np.int8)
    scores = np.full(len(units) * len(labels), np.nan, np.float32)
    truths[place], scores[place] = truth, score
    shape = (len(units), len(labels))
    return Predictions(
        units=units,
        patients=_one_a_unit(table, "patient", unit, len(units), name),
        studies=_one_a_unit(table, "study", unit, len(units), name),
        labels=tuple(labels.tolist()),
        truth=truths.reshape(shape),
        score=scores.reshape(shape),
    )


def _table(path: Path, name: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path, columns=list(COLUMNS))
    except (pa.ArrowInvalid, OSError) as error:
        raise ReportError(f"predictions of {name} cannot be read ({path}): {str(error).splitlines()[0]}; evaluate again") from error


def _codes(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted distinct texts of a column and the place of each row among them."""
    coded = column.combine_chunks().dictionary_encode()
    texts = np.array(coded.dictionary.to_pylist(), dtype=object)
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    order = np.argsort(texts, kind="stable")
    rank = np.empty(len(texts), np.int64)
    rank[order] = np.arange(len(texts))
    return texts[order], rank[codes]


def _one_a_unit(table: Any, column: str, unit: np.ndarray, units: int, name: str) -> np.ndarray:
    texts, code = _codes(table.column(column))
    found = np.full(units, -1, np.int64)
    found[unit] = code
    if (found[unit] != code).any():
        raise ReportError(f"predictions of {name}: a unit belongs to two values of '{column}'; delete the file and evaluate again")
    return texts[found]
