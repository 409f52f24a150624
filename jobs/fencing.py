"""Who may write for a job: the attempt that was claimed last.

A node that a scheduler has lost may go on with a job that the scheduler has started again elsewhere. What the old process saves then
would stand beside, or in the place of, what the new one saves.
"""

from __future__ import annotations

from jobs.events import read_events
from jobs.paths import AttemptPaths, JobPaths
from jobs.spec import EventKind


def is_superseded(attempt: AttemptPaths) -> bool:
    """Tell whether a later attempt of the job was claimed to run it. One that only records a cancellation takes nothing over."""
    others = JobPaths(attempt.folder.parents[1]).attempts()
    return any(other.number > attempt.number and other.claim.exists() and not _is_cancellation(other) for other in others)


def _is_cancellation(attempt: AttemptPaths) -> bool:
    events = read_events(attempt.events)
    return bool(events) and events[0]["kind"] == EventKind.CANCELLED
