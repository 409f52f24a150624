"""Where every job stands: a fold over the files of a run root. Nothing is cached and nothing else is asked.

A job that has `result.json` SUCCEEDED. Otherwise its last claimed attempt decides: the event that ended it, or, when it has none,
whether the process that claimed it still lives. Open intents (`orchestrator.intents`) say who answers for what has not started.
Backends whose jobs outlive the client hand in what their scheduler says; without that answer a started job there is UNKNOWN, never done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.events import append_event, is_alive, read_events
from jobs.main import claim
from jobs.paths import AttemptPaths, JobPaths, RunPaths
from jobs.spec import EventKind, FailureKind, Json, State
from orchestrator import policy
from orchestrator.finished import finished, times_of
from orchestrator.intents import Held, open_intents
from orchestrator.sightings import Sighting

_ENDS: Mapping[str, State] = {
    EventKind.SUCCEEDED: State.SUCCEEDED,
    EventKind.STOPPED: State.STOPPED,
    EventKind.FAILED: State.FAILED,
    EventKind.CANCELLED: State.CANCELLED,
}
_DOUBT_MESSAGE = "its client died while handing it over; the next submit on that cluster finds out whether the scheduler has it"
_LOST_MESSAGE = "its process is gone and left no reason (killed, or the machine went down)"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """Where one job stands."""

    job_id: str
    state: State
    #: Number of the last claimed attempt; 0 when nothing was ever started (and, without `details`, of a job that succeeded).
    attempt: int = 0
    failure: FailureKind | None = None
    #: How many of its attempts failed for want of what the last one lacked.
    repeats: int = 0
    #: Why it failed or was interrupted, for people.
    message: str = ""
    #: It failed with a sentence for people: they put something right, where otherwise code raised what nobody foresaw.
    for_people: bool = False
    #: Seconds since the epoch of the last attempt's start and end, when known.
    started: float | None = None
    ended: float | None = None
    #: Last checkpoint of the running attempt.
    step: int | None = None
    epoch: int | None = None
    #: Who claimed the last attempt.
    owner: Mapping[str, Json] = field(default_factory=dict)
    #: The open submission that answers for the job.
    submission: str | None = None
    #: What the scheduler says, on backends that have one.
    sighting: Sighting | None = None
    #: The rule of the search that stopped it for good, as its pick's config holds it.
    stopped_by: Mapping[str, Json] | None = None

    @property
    def next_attempt(self) -> int:
        """Return the number that the next attempt would take."""
        return self.attempt + 1

    @property
    def is_live(self) -> bool:
        """Tell whether somebody answers for the job right now."""
        return self.state in (State.SUBMITTED, State.RUNNING)

    @property
    def seconds(self) -> float | None:
        """Return how long the last attempt took, when it has ended."""
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cover:
    """What the open intents say of one job."""

    sid: str
    live: bool
    detaches: bool
    #: First attempt number that the submission may start.
    attempt: int
    #: What the scheduler calls the submission; empty while it has no number, and where there is no scheduler.
    native: str = ""

    @property
    def is_in_doubt(self) -> bool:
        """Tell whether the scheduler may have the job although nobody has written down a number."""
        return self.detaches and not self.native and not self.live


def states(
    run: RunPaths,
    job_ids: Iterable[str],
    *,
    polled: Mapping[str, Sighting] | None = None,
    ignoring: str | None = None,
    details: bool = False,
) -> dict[str, JobStatus]:
    """Fold the files of a run root into the state of each job.

    `polled` is what the schedulers of detaching backends say, by job id. `ignoring` names a submission that is not asked: its own
    driver wants to know where its jobs really stand. `details` also reads times and attempts of jobs that succeeded.
    Raises LedgerError for a submission record that cannot be read.
    """
    wanted = list(job_ids)
    covers = _covers(open_intents(run, ignoring=ignoring), wanted)
    touched = _touched(run, wanted)
    found: dict[str, JobStatus] = {}
    for job in wanted:
        if job not in touched:
            found[job] = _not_started(job, 0, covers.get(job), polled)
        elif (known := finished(touched[job], details=details)) is not None:
            found[job] = JobStatus(job_id=job, state=State.SUCCEEDED, **known)
        else:
            found[job] = _of_folder(run.job(job), job, covers.get(job), polled)
    return found


def state_of(run: RunPaths, job_id: str, **how: Any) -> JobStatus:
    """Return where one job stands; arguments as for `states`."""
    return states(run, [job_id], **how)[job_id]


def write_tombstone(run: RunPaths, job_id: str, reason: str) -> bool:
    """Cancel a job that is not running: claim its next attempt, so that nobody else can, and end it as CANCELLED.

    Returns False when the job has a result, was cancelled before, or somebody claimed that attempt in the meantime.
    """
    paths = run.job(job_id)
    last = _last_claimed(paths.attempts())
    if _has_result(paths) or (last and _is_cancelled(paths.attempt(last))):
        return False
    attempt = claim(paths, last + 1)
    if attempt is None:
        return False
    append_event(attempt.events, EventKind.CANCELLED, message=reason)
    return True


def _is_cancelled(attempt: AttemptPaths) -> bool:
    return any(event.get("kind") == EventKind.CANCELLED for event in read_events(attempt.events))


def write_loss(attempt: AttemptPaths, message: str, failure: FailureKind = FailureKind.ERROR) -> None:
    """End an attempt that came, or will come, to no end of its own: its process is this one, or gone for good."""
    append_event(attempt.events, EventKind.FAILED, failure=str(failure), message=message, for_people=False)


def has_ended(attempt: AttemptPaths) -> bool:
    """Tell whether an attempt left an event that ends it."""
    return any(event.get("kind") in _ENDS for event in read_events(attempt.events))


def _covers(open_: Sequence[Held], wanted: Sequence[str]) -> dict[str, _Cover]:
    covers: dict[str, _Cover] = {}
    asked = set(wanted)
    for held in open_:
        intent = held.intent
        native = str(intent.native["id"]) if intent.native is not None else ""
        for job in asked & intent.jobs.keys():
            known = covers.get(job)
            if known is None or held.live or not known.live:
                covers[job] = _Cover(sid=intent.sid, live=held.live, detaches=intent.detaches, attempt=intent.jobs[job], native=native)
    return covers


def _touched(run: RunPaths, job_ids: Sequence[str]) -> dict[str, str]:
    """Return the folders of jobs that were ever started or have a result: one listing a shard, and two questions for each folder.

    Plain strings: a queue of 10,000 jobs that wait is asked for again and again, and building paths would cost most of it.
    """
    shards: dict[str, list[str]] = {}
    for job in job_ids:
        shards.setdefault(job[:2], []).append(job)
    touched: dict[str, str] = {}
    for shard, jobs in shards.items():
        folder = f"{run.root}{os.sep}jobs{os.sep}{shard}"
        try:
            present = set(os.listdir(folder))
        except FileNotFoundError:
            continue
        for job in jobs:
            place = f"{folder}{os.sep}{job}"
            if job in present and (os.path.lexists(f"{place}{os.sep}attempts") or os.path.lexists(f"{place}{os.sep}result.json")):
                touched[job] = place
    return touched


def _of_folder(paths: JobPaths, job: str, cover: _Cover | None, polled: Mapping[str, Sighting] | None) -> JobStatus:
    """Judge a job that was started, or may have been, and has no result."""
    attempts = paths.attempts()
    number = _last_claimed(attempts)
    if number == 0 or (cover is not None and (cover.live or cover.is_in_doubt) and number < cover.attempt):
        return _not_started(job, number, cover, polled)
    status = _of_attempt(paths.attempt(number), job, cover, polled)
    if status.state is State.INTERRUPTED and cover is not None and cover.is_in_doubt:
        return replace(status, state=State.UNKNOWN, message=_DOUBT_MESSAGE)
    if status.failure is not None and policy.rule(status.failure).remedy is policy.Remedy.BUMP:
        return replace(status, repeats=sum(_ended_by(one, status.failure) for one in attempts))
    return status


def _ended_by(attempt: AttemptPaths, failure: FailureKind) -> bool:
    return any(event.get("failure") == failure for event in read_events(attempt.events)[-1:])


def _has_result(paths: JobPaths) -> bool:
    """Tell whether there is a result; an empty one, left by a power cut, is none."""
    try:
        return paths.result.stat().st_size > 0
    except FileNotFoundError:
        return False


def _last_claimed(attempts: Sequence[AttemptPaths]) -> int:
    return next((attempt.number for attempt in reversed(attempts) if attempt.claim.exists()), 0)


def _not_started(job: str, attempt: int, cover: _Cover | None, polled: Mapping[str, Sighting] | None) -> JobStatus:
    if cover is None:
        return JobStatus(job_id=job, state=State.NEW, attempt=attempt)
    if cover.is_in_doubt:
        return JobStatus(job_id=job, state=State.UNKNOWN, attempt=attempt, message=_DOUBT_MESSAGE)
    seen = _seen(job, cover, polled)
    if not cover.native:
        state = State.SUBMITTED if cover.live else State.NEW
    elif seen is None or seen.state is State.UNKNOWN:
        state = State.UNKNOWN
    else:
        # One that ended without having started: cancelled with its parent, or dead before its first line.
        state = State.SUBMITTED if seen.is_live else State.NEW
    sid = cover.sid if state is not State.NEW else None
    return JobStatus(job_id=job, state=state, attempt=attempt, submission=sid, sighting=seen)


def _seen(job: str, cover: _Cover | None, polled: Mapping[str, Sighting] | None) -> Sighting | None:
    """Return what the scheduler says of a job, where it speaks of the very submission that answers for the job."""
    if polled is None or cover is None or not cover.native:
        return None
    seen = polled.get(job)
    return seen if seen is not None and seen.is_of(cover.native) else None


def _of_attempt(attempt: AttemptPaths, job: str, cover: _Cover | None, polled: Mapping[str, Sighting] | None) -> JobStatus:
    events = read_events(attempt.events)
    last = next((event for event in reversed(events) if event.get("kind") in _ENDS), None)
    seen = _seen(job, cover, polled)
    answered = cover is not None and (cover.live if seen is None or seen.state is State.UNKNOWN else seen.is_live)
    sid = cover.sid if cover is not None and answered else None
    about: dict[str, Any] = {"job_id": job, "attempt": attempt.number, "submission": sid, "sighting": seen, **times_of(events)}
    if last is None:
        return _of_open_attempt(attempt, cover, about)
    state = _ENDS[last["kind"]]
    failure = failure_kind(last.get("failure")) if state is State.FAILED else None
    message = str(last.get("message", ""))
    if state is State.SUCCEEDED:
        state, message = State.INTERRUPTED, "it ended well, and its result is missing or empty"
    elif state is State.STOPPED and last.get("resumable"):
        state, failure, message = State.INTERRUPTED, FailureKind.PREEMPTED, "it was asked to stop and saved"
        if seen is not None and seen.failure is FailureKind.TIMEOUT:
            failure, message = FailureKind.TIMEOUT, "its time ran out, and it saved"
    elif failure is not None and policy.continues(failure):
        state = State.INTERRUPTED
    if state is State.INTERRUPTED and answered:
        state = State.SUBMITTED
    stopped_by = last.get("search") if state is State.STOPPED else None
    return JobStatus(
        state=state, failure=failure, message=message, for_people=last.get("for_people") is True, stopped_by=stopped_by, **about
    )


def _of_open_attempt(attempt: AttemptPaths, cover: _Cover | None, about: dict[str, Any]) -> JobStatus:
    """Judge an attempt that was claimed and has no end: by the scheduler that has it, else by its process, else by its submission."""
    owner = _owner(attempt)
    about["owner"] = owner
    seen = about["sighting"]
    if seen is not None and seen.state is not State.UNKNOWN:
        return _by_scheduler(seen, about)
    alive = is_alive(owner) if owner else False
    if alive is None and cover is not None and not cover.native:
        alive = cover.live
    if alive is None:
        return JobStatus(state=State.UNKNOWN, message=f"it was started on {owner.get('host')}, which cannot be asked from here", **about)
    if alive:
        return JobStatus(state=State.RUNNING, **about)
    state = State.SUBMITTED if cover is not None and cover.live else State.INTERRUPTED
    return JobStatus(state=state, failure=FailureKind.LOST, message=_LOST_MESSAGE, **about)


def _by_scheduler(seen: Sighting, about: dict[str, Any]) -> JobStatus:
    """Judge an attempt without an end whose element the scheduler knows."""
    if seen.is_live:
        return JobStatus(state=seen.state, **about)
    failure = seen.failure or FailureKind.LOST
    message = f"the scheduler ended it ({seen.word.lower()})" if seen.failure is not None else _LOST_MESSAGE
    state = State.INTERRUPTED if policy.continues(failure) else State.FAILED
    return JobStatus(state=state, failure=failure, message=message, **about)


def _owner(attempt: AttemptPaths) -> dict[str, Json]:
    try:
        owner = json.loads(attempt.claim.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def failure_kind(name: Json) -> FailureKind:
    """Return the kind of failure that an event names; one that names none, or none that is known here, is ERROR."""
    try:
        return FailureKind(name)
    except ValueError:
        return FailureKind.ERROR
