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
    #: What an evaluation that names no unit takes from the card: `score_per`, `views`, `cluster`.
    defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRef:
    """An external weights file as it stands in a job's id."""

    sha256: str
    resolved: bool = True
    #: What stands in the config instead of a name or path that means something on one machine only; None keeps the value.
    named: str | None = None


class Resolver(Protocol):
    """Answers what the expansion asks of the world. Every answer for the same question is the same within one expansion."""

    #: True when data is made, or weights are stand-ins: the plan and every page that comes of it say so.
    made_data: bool

    def data(self, name: str) -> DataRef:
        """Return the reference of a card. Raises DataError for a name that is no card."""
        ...

    def folds(self, name: str, draws: Draws) -> int:
        """Return how many folds a scheme with folds has on a card (leave_pair_out: positives times negatives)."""
        ...

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        """Return the file behind a start (`imagenet`, a path) for an architecture; None when the start is no file (`random`)."""
        ...

    def labels(self, card: str) -> tuple[str, ...]:
        """Return the label names of a card, in order."""
        ...
