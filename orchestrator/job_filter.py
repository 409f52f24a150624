"""What a person types to see fewer jobs: words that must all be true of a job, `state:failed phase:finetune lr=0.001`."""

from __future__ import annotations

from collections.abc import Callable

from jobs.spec import State
from orchestrator.status import JobRow

#: What comes before a colon, and what of a job it is compared with: the beginning of it, whatever the case.
FIELDS: dict[str, Callable[[JobRow], str]] = {
    "state": lambda row: str(row.state),
    "phase": lambda row: row.phase,
    "stage": lambda row: str(row.stage),
    "failure": lambda row: row.failure or "",
    "job": lambda row: row.job_id,
}
_FIRST = (State.RUNNING, State.FAILED, State.INTERRUPTED, State.UNKNOWN, State.SUBMITTED, State.NEW, State.CANCELLED, State.STOPPED)
_RANK = {state: rank for rank, state in enumerate((*_FIRST, State.SUCCEEDED))}


def fits(row: JobRow, words: str) -> bool:
    """Tell whether all words are true of a job; one without a field before a colon is looked for in its id, trial and message."""
    return all(_fits(row, word.lower()) for word in words.split())


def _fits(row: JobRow, word: str) -> bool:
    name, colon, value = word.partition(":")
    if colon and name in FIELDS:
        return FIELDS[name](row).lower().startswith(value)
    return any(word in text.lower() for text in (row.job_id, row.trial, row.message))


def rank(row: JobRow) -> int:
    """Return where a job stands in a list: what runs first, then what went wrong, what waits, and what is done."""
    return _RANK[row.state]
