"""What a plan has to know of the world: digests of data and weights. A resolver answers; the expansion itself opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from jobs.spec import Json
from orchestrator.model import Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef:
    """A data set as it stands in a job's id: `card`, `card_sha256`, `split`, and `files` or `made`."""

    identity: Mapping[str, Json]
    #: False while the label files are out of reach: ids made with it are provisional.
    resolved: bool = True
    #: Why it could not be resolved, as a sentence for a person.
    problem: str = ""
    #: What an evaluation that names no unit takes from the card: `score_per`, `views`, `cluster`.
    defaults: Mapping[str, str] = field(default_factory=dict)
    #: Slug -> column on disk: what an evaluation's predictions carry of each unit, and what its id therefore holds.
    traits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRef:
    """A start that is more than a word: an external weights file as it stands in a job's id, or a stand-in for one."""

    #: None for a stand-in that needs no file.
    sha256: str | None
    resolved: bool = True
    #: What stands in the config instead of a name or path that means something on one machine only; None keeps the value.
    named: str | None = None


class Resolver(Protocol):
    """Answers what the expansion asks of the world. Every answer for the same question is the same within one expansion."""

    @property
    def made_data(self) -> bool:
        """Tell whether data is made, or weights are stand-ins: the plan and every page that comes of it say so."""
        ...

    def data(self, name: str) -> DataRef:
        """Return the reference of a card. Raises DataError for a name that is no card."""
        ...

    def folds(self, name: str, draws: Draws) -> int:
        """Return how many folds a scheme with folds has on a card (leave_pair_out: positives times negatives)."""
        ...

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        """Return the file behind a start (`imagenet`, a path) for an architecture; None when the start is no file (`random`)."""
        ...

    def file(self, value: str) -> WeightsRef:
        """Return a file that a config names, by its path or as a key of the cluster's weights. Raises WeightsError where there is none."""
        ...

    def labels(self, card: str) -> tuple[str, ...]:
        """Return the label names of a card, in order."""
        ...

    def task(self, card: str) -> str:
        """Return what kind of labels a card has: `multilabel`, `multiclass`, `segmentation`, `unlabelled`; empty when none looks."""
        ...

    def overlap(self, trained: str, card: str, split: str) -> str:
        """Say why training on a card has seen images of a split of another one; empty when it has not."""
        ...

    def pooled(self, card: str, split: str) -> tuple[str, ...]:
        """Return the members of a union that have images in a split of it; nothing for a card that is no union."""
        ...


class Remembering:
    """A resolver that asks each question once, and keeps what could not be resolved."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._data: dict[str, DataRef] = {}
        self._weights: dict[tuple[str, str | None], WeightsRef | None] = {}
        self._files: dict[str, WeightsRef] = {}
        self._overlaps: dict[tuple[str, str, str], str] = {}

    @property
    def made_data(self) -> bool:
        """Tell whether anything that was asked for is made, or a stand-in."""
        return self._resolver.made_data

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a sentence for each data set that is out of reach."""
        return tuple(ref.problem for ref in self._data.values() if ref.problem)

    def data(self, name: str) -> DataRef:
        """Return the reference of a card."""
        if name not in self._data:
            self._data[name] = self._resolver.data(name)
        return self._data[name]

    def folds(self, name: str, draws: Draws) -> int:
        """Return how many folds a scheme has on a card."""
        return self._resolver.folds(name, draws)

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        """Return what is behind a start."""
        if (value, arch) not in self._weights:
            self._weights[(value, arch)] = self._resolver.weights(value, arch=arch)
        return self._weights[(value, arch)]

    def file(self, value: str) -> WeightsRef:
        """Return a file that a config names."""
        if value not in self._files:
            self._files[value] = self._resolver.file(value)
        return self._files[value]

    def labels(self, card: str) -> tuple[str, ...]:
        """Return the label names of a card."""
        return self._resolver.labels(card)

    def task(self, card: str) -> str:
        """Return what kind of labels a card has."""
        return self._resolver.task(card)

    def overlap(self, trained: str, card: str, split: str) -> str:
        """Say why training on a card has seen images of a split of another one."""
        key = (trained, card, split)
        if key not in self._overlaps:
            self._overlaps[key] = self._resolver.overlap(*key)
        return self._overlaps[key]

    def pooled(self, card: str, split: str) -> tuple[str, ...]:
        """Return the members of a union that have images in a split of it."""
        return self._resolver.pooled(card, split)
