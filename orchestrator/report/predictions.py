"""Predictions from disk: one matrix of scores a run, all on the same rows, or a refusal that names the run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import ReportError

TEXTS = ("image", "patient", "study", "label")
COLUMNS = (*TEXTS, "truth", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What one run said of one test set: `units` ascending, `labels` ascending, matrices of shape (units, labels)."""

    units: np.ndarray
    patients: np.ndarray
    studies: np.ndarray
    labels: tuple[str, ...]
    #: int8: 1, 0, or -1 where the truth is not known.
    truth: np.ndarray
    #: float32 from a trainer, float64 from anybody's file; NaN where the truth is not known.
    score: np.ndarray
    #: Declared columns, such as sex: a text a unit, in the order of `units`; empty where it is not known.
    traits: Mapping[str, np.ndarray] = field(default_factory=dict)

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
            traits={name: texts[rows] for name, texts in self.traits.items()},
        )

    def frame_digest(self) -> str:
        """Return a digest of everything but the scores: two runs are compared only on the same frame."""
        digest = hashlib.sha256("\x1f".join(self.labels).encode())
        for ids in (self.units, self.patients, self.studies):
            digest.update("\x1f".join(ids.tolist()).encode())
        digest.update(np.ascontiguousarray(self.truth).tobytes())
        return digest.hexdigest()

    def units_digest(self) -> str:
        """Return the sha256 of the ids of what was scored, as a trainer writes it."""
        return hashlib.sha256("\n".join(self.units.tolist()).encode()).hexdigest()


def first_disagreement(one: Predictions, other: Predictions, names: tuple[str, str]) -> str:
    """Say where two runs first disagree about the rows that they were scored on; empty when they do not."""
    for here, there, name in ((one, other, names[0]), (other, one, names[1])):
        alone = np.setdiff1d(here.units.astype(str), there.units.astype(str))
        if len(alone):
            return f"unit '{alone[0]}' is only in {name}"
    for what, mine, theirs in (("patient", one.patients, other.patients), ("study", one.studies, other.studies)):
        differ = np.flatnonzero(mine != theirs)
        if len(differ):
            row = differ[0]
            return f"the {what} of unit '{one.units[row]}' is '{mine[row]}' in {names[0]} and '{theirs[row]}' in {names[1]}"
    shared = [label for label in one.labels if label in other.labels]
    truths = [each.truth[:, [each.labels.index(label) for label in shared]] for each in (one, other)]
    rows, columns = np.nonzero(truths[0] != truths[1])
    if not len(rows):
        return ""
    words = {1: "1", 0: "0", -1: "not known"}
    said = [words[int(truth[rows[0], columns[0]])] for truth in truths]
    where = f"of {shared[columns[0]]} in unit '{one.units[rows[0]]}'"
    return f"the truth {where} is {said[0]} in {names[0]} and {said[1]} in {names[1]}"


def read_predictions(path: Path, name: str) -> Predictions:
    """Read a long table of predictions into matrices, whatever the order of its rows.

    `name` is what errors call the run. Raises ReportError on a missing column, a truth other than 0 and 1, a score that is not finite, a
    unit that two patients share, or the same (unit, label) twice.
    """
    table = _table(path, name)
    image, label = Coded.of(table.column("image")), Coded.of(table.column("label"))
    truth = table.column("truth").to_numpy().astype(np.int64)
    score = table.column("score").to_numpy().astype(np.float32)
    if not ((truth == 0) | (truth == 1)).all():
        raise ReportError(f"predictions of {name}: a truth is neither 0 nor 1; leave rows without a known truth out, then evaluate again")
    if not np.isfinite(score).all():
        raise ReportError(f"predictions of {name}: {int((~np.isfinite(score)).sum())} scores are not finite; look at the training run")
    if twice(image, label) is not None:
        raise ReportError(f"predictions of {name}: a unit is scored twice for one label; delete the file and evaluate again")
    owners = {what: Coded.of(table.column(what)) for what in ("patient", "study")}
    for what, owner in owners.items():
        if two_values(image, owner) is not None:
            raise ReportError(f"predictions of {name}: a unit belongs to two values of '{what}'; delete the file and evaluate again")
    return matrices(image, label, truth, score, owners)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A column of text: its distinct texts in ascending order, and the place of each row among them."""

    texts: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, column: Any) -> Coded:
        """Read an arrow column of text without nulls; one that is dictionary encoded stays so, which saves a text a row."""
        import pyarrow as pa

        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        coded = encoded.unify_dictionaries().combine_chunks()
        texts = np.array(coded.dictionary.to_pylist(), dtype=object)
        codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        # A dictionary may hold texts that no row has.
        used = np.bincount(codes, minlength=len(texts)) > 0
        order = np.argsort(texts, kind="stable")
        order = order[used[order]]
        rank = np.empty(len(texts), np.int64)
        rank[order] = np.arange(len(order))
        return cls(texts=texts[order], codes=rank[codes])

    def take(self, rows: np.ndarray) -> Coded:
        """Return some rows, with the texts that they have."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        return Coded(texts=self.texts[present], codes=codes)


def twice(image: Coded, label: Coded) -> tuple[int, int] | None:
    """Return the first two rows that hold the same unit and label, or None."""
    place = image.codes * len(label.texts) + label.codes
    if not len(place) or np.bincount(place).max() <= 1:
        return None
    order = np.argsort(place, kind="stable")
    same = np.flatnonzero(np.diff(place[order]) == 0)
    return None if not len(same) else min((int(order[at]), int(order[at + 1])) for at in same)


def two_values(image: Coded, owner: Coded) -> tuple[int, int] | None:
    """Return two rows of one unit that differ in a column that belongs to the unit, or None."""
    first = np.full(len(image.texts), len(image.codes), np.int64)
    np.minimum.at(first, image.codes, np.arange(len(image.codes)))
    other = np.flatnonzero(owner.codes[first[image.codes]] != owner.codes)
    return None if not len(other) else (int(first[image.codes[other[0]]]), int(other[0]))


def matrices(
    image: Coded, label: Coded, truth: np.ndarray, score: np.ndarray, owners: Mapping[str, Coded], traits: Mapping[str, Coded] | None = None
) -> Predictions:
    """Lay checked rows out as matrices. `owners` holds patient and study, `traits` the declared columns; each has one value a unit."""
    shape = (len(image.texts), len(label.texts))
    place = image.codes * shape[1] + label.codes
    truths, scores = np.full(shape[0] * shape[1], -1, np.int8), np.full(shape[0] * shape[1], np.nan, score.dtype)
    truths[place], scores[place] = truth, score

    def of_unit(column: Coded) -> np.ndarray:
        found = np.zeros(shape[0], np.int64)
        found[image.codes] = column.codes
        return column.texts[found]

    return Predictions(
        units=image.texts,
        patients=of_unit(owners["patient"]),
        studies=of_unit(owners["study"]),
        labels=tuple(label.texts.tolist()),
        truth=truths.reshape(shape),
        score=scores.reshape(shape),
        traits={name: of_unit(column) for name, column in sorted((traits or {}).items())},
    )


def _table(path: Path, name: str) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path, columns=list(COLUMNS), read_dictionary=list(TEXTS))
    except (pa.ArrowInvalid, OSError) as error:
        raise ReportError(f"predictions of {name} cannot be read ({path}): {str(error).splitlines()[0]}; evaluate again") from error
