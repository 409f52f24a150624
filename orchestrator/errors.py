"""What a person can cause, as a tree. The command line catches `Error` only; anything else is a fault of ours.

Error (trainers.errors)          a sentence: place, what is wrong, what to type; exit code 2
├── DataError, WeightsError      (trainers.errors) raised on the node and at plan time
├── SweepError                   a sweep file; carries file, line, column and the dotted path
├── ClusterError                 a cluster config, or a request that no partition can meet
├── IdentityError                a stored result and the plan disagree about what a job is
├── LedgerError                  the run root holds something that it should not
├── TrackingError                the MLflow mirror
├── ReportError                  results that cannot be compared, or are not there yet
└── BackendError                 submission; `transient` says whether trying again may help
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.errors import DataError, Error, WeightsError

__all__ = [
    "BackendError",
    "ClusterError",
    "DataError",
    "Error",
    "IdentityError",
    "LedgerError",
    "Place",
    "ReportError",
    "SweepError",
    "TrackingError",
    "WeightsError",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a YAML file something stands; line and column count from 1."""

    file: str
    line: int
    column: int
    #: The text of that line, for the caret.
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class SweepError(Error):
    """A sweep file is wrong: `file:line:column: dotted.path: what; what to type`, with the line and a caret under it."""

    def __init__(self, message: str, *, path: str = "", place: Place | None = None) -> None:
        self.message = message
        self.path = path
        self.place = place
        super().__init__(self._render())

    def _render(self) -> str:
        head = ": ".join(part for part in (str(self.place) if self.place else "", self.path, self.message) if part)
        if self.place is None or not self.place.text:
            return head
        return f"{head}\n  {self.place.text}\n  {' ' * (self.place.column - 1)}^"


class ClusterError(SweepError):
    """A cluster config is wrong, or no partition of it can meet a request."""


class IdentityError(Error):
    """The same job id stands for two different things: a default or a card changed without a version."""


class LedgerError(Error):
    """The run root holds something that cannot be read as a ledger."""


class TrackingError(Error):
    """The MLflow mirror cannot be written."""


class ReportError(Error):
    """There is nothing to report, or results that may not be compared."""


class BackendError(Error):
    """A backend could not submit, poll or cancel."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(message)
