"""The frame of a test set: the units that were scored, whose they are, and what is true of them; every run of it has the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What one run was scored on: `units` ascending, `labels` ascending, matrices of shape (units, labels)."""

    units: np.ndarray
    patients: np.ndarray
    studies: np.ndarray
    labels: tuple[str, ...]
    #: int8: 1, 0, or -1 where the truth is not known.
    truth: np.ndarray
    #: Declared columns, such as sex: a text a unit, in the order of `units`; empty where it is not known.
    traits: Mapping[str, np.ndarray] = field(default_factory=dict)

    def clusters(self, by: str) -> np.ndarray:
        """Return the cluster of each unit as codes from 0, in the order of the sorted ids. `by` is patient, study or image."""
        ids = {"patient": self.patients, "study": self.studies, "image": self.units}[by]
        return np.unique(ids, return_inverse=True)[1]

    def only(self, labels: Sequence[str]) -> Self:
        """Return these labels alone, and the units with a known truth of any of them."""
        columns = [self.labels.index(label) for label in labels]
        rows = np.asarray((self.truth[:, columns] >= 0).any(axis=1))
        return replace(self._taken(rows, columns), labels=tuple(labels))

    def rows(self, rows: np.ndarray) -> Self:
        """Return some units under a boolean mask."""
        return self._taken(rows, list(range(len(self.labels))))

    def _taken(self, rows: np.ndarray, columns: Sequence[int]) -> Self:
        changed: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("units", "patients", "studies", *self.of_unit())}
        changed |= {name: getattr(self, name)[rows][:, columns] for name in ("truth", *self.of_label())}
        changed["traits"] = {name: texts[rows] for name, texts in self.traits.items()}
        return replace(self, **changed)

    def of_unit(self) -> tuple[str, ...]:
        """Name the further arrays of shape (units,)."""
        return ()

    def of_label(self) -> tuple[str, ...]:
        """Name the further arrays of shape (units, labels)."""
        return ()

    def holds(self) -> str:
        """Return what the run left of each unit."""
        return ""

    def known(self) -> tuple[str, ...]:
        """Name the further arrays that are not the run's own: they must be the same in every run."""
        return ()

    def frame_digest(self) -> str:
        """Return a digest of everything that is not the run's own: two runs are compared only on the same frame."""
        digest = hashlib.sha256("\x1f".join(self.labels).encode())
        for ids in (self.units, self.patients, self.studies):
            digest.update("\x1f".join(ids.tolist()).encode())
        for name in ("truth", *self.known()):
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()

    def units_digest(self) -> str:
        """Return the sha256 of the ids of what was scored, as a trainer writes it."""
        return hashlib.sha256("\n".join(self.units.tolist()).encode()).hexdigest()


def first_disagreement(one: Frame, other: Frame, names: tuple[str, str]) -> str:
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


def of_units(image: Coded, column: Coded) -> np.ndarray:
    """Return a column that has one value a unit, in the order of the units."""
    found = np.zeros(len(image.texts), np.int64)
    found[image.codes] = column.codes
    return column.texts[found]
