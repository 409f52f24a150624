"""What to do with each job of a plan: pure, without clock, files or network. The same plan and states give the same actions.

A job that was never started, or that was interrupted, is submitted once every input is done or is submitted with it. A failed or
cancelled one waits for a person (`resume`), and what is downstream of it is not submitted; only what failed for want of space goes on
with the next submission. A pick goes on without candidates that lost, and without those that its own search stopped. These stay stopped
for as long as the plan holds that search; without it, or under another rule, they go on from their checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from jobs.spec import LOSING_FAILURES, FailureKind, JobSpec, Json, Resources, Stage, State
from orchestrator import policy
from orchestrator.ledger import JobStatus
from orchestrator.model import Plan
from orchestrator.searches import SEARCH, contests_of


class Why(StrEnum):
    """Why a job is left as it is."""

    DONE = "done"
    IN_FLIGHT = "in flight"
    FAILED = "failed, waits for resume"
    NO_ROOM = "the disk was full, the next submit goes on"
    CANCELLED = "cancelled, waits for resume"
    LOST_THE_PICK = "lost, is not retried"
    STOPPED = "stopped by its search"
    BLOCKED = "an input is not there and will not come"
    GAVE_UP = "died too often in this submission"
    UNKNOWN = "nobody can say where it stands"
    NOT_ASKED = "not among the jobs asked for"
    COMING = "an input is being handed over by another client"
    UNRESOLVED = "its data or weights are out of reach"
    QUEUE_FULL = "beyond what may be queued at once"
    SWEEP_STOPPED = "its sweep was stopped, waits for resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Start a job."""

    job_id: str
    attempt: int
    resources: Resources
    #: What it goes on from: None for a first start.
    after: FailureKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Leave a job as it is."""

    job_id: str
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop a job that is queued or running."""

    job_id: str
    submission: str | None


Action: TypeAlias = Submit | Keep | Cancel


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asked for."""

    #: Run failed and cancelled jobs again.
    resume: bool = False
    #: Somebody looked at what failed: `resume` then also lets a sweep go on that its failures have stopped.
    by_person: bool = True
    #: Only jobs that failed in one of these ways, with `resume`; a kind that lost (DIVERGED) is run again only when named here.
    failures: frozenset[FailureKind] = frozenset()
    #: Only these jobs; None means all of the plan.
    only: frozenset[str] | None = None
    #: Jobs to cancel; they need not be in the plan (points that an edited sweep no longer has).
    cancel: frozenset[str] = frozenset()
    #: Jobs that this very command has given up on, and those that it has started.
    gave_up: frozenset[str] = frozenset()
    tried: frozenset[str] = frozenset()
    #: Jobs that somebody answers for and that no scheduler has a place for yet, so that nothing could wait for them there.
    unplaced: frozenset[str] = frozenset()
    #: How many jobs may be queued or running at once; None means any number.
    max_queued: int | None = None
    #: The sweep was stopped while this command was following it: nothing more of it is submitted.
    stopped: bool = False


@dataclass(slots=True)
class _Tally:
    #: Jobs that this very decision submits, and those that it cancels.
    coming: set[str] = field(default_factory=set)
    going: frozenset[str] = frozenset()
    #: Jobs that are left for the moment at which their inputs have a place in the scheduler's queue.
    later: set[str] = field(default_factory=set)
    #: Jobs that are beyond what may be queued, and those that follow them.
    beyond: set[str] = field(default_factory=set)
    queued: int = 0
    #: Train job -> the rule of the search that it takes part in.
    rules: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)


def decide(plan: Plan, states: Mapping[str, JobStatus], request: Request | None = None) -> tuple[Action, ...]:
    """Return one action a job, in plan order (parents before children), then the cancellations of jobs outside the plan.

    `states` must hold every job of the plan and every job to cancel. Raises KeyError when one is missing.
    """
    request = request or Request()
    known = plan.by_id()
    queued = sum(states[job].is_live for job in known if job not in request.cancel)
    rules = {job: contest.rule for job, contest in contests_of(plan.jobs).items()}
    tally = _Tally(going=request.cancel, queued=queued, rules=rules)
    actions: list[Action] = [_decide_one(spec, known, states, request, tally) for spec in plan.jobs]
    outside = sorted(request.cancel - known.keys())
    actions += [Cancel(job_id=job, submission=states[job].submission) for job in outside if states[job].is_live]
    return tuple(actions)


def submitted(actions: Iterable[Action]) -> list[Submit]:
    """Return the submissions among actions, in order."""
    return [action for action in actions if isinstance(action, Submit)]


def has_lost(status: JobStatus) -> bool:
    """Tell whether a job is a candidate that lost: a pick counts it and does not wait for it."""
    return status.state is State.FAILED and status.failure in LOSING_FAILURES


def stays_stopped(status: JobStatus, rule: Mapping[str, Json] | None) -> bool:
    """Tell whether a job that a search stopped is over, given the rule of the search that its plan holds for it now."""
    return status.state is State.STOPPED and status.stopped_by in (None, rule)


def passes_over(pick: JobSpec, status: JobStatus) -> bool:
    """Tell whether a pick goes on without a candidate: it lost, or the search that the pick chooses from stopped it."""
    if pick.stage is not Stage.PICK:
        return False
    rule = pick.config.get(SEARCH)
    return has_lost(status) or (status.state is State.STOPPED and rule is not None and status.stopped_by == rule)


def _decide_one(spec: JobSpec, known: Mapping[str, JobSpec], states: Mapping[str, JobStatus], request: Request, tally: _Tally) -> Action:
    status = states[spec.job_id]
    if spec.job_id in request.cancel:
        if status.is_live:
            return Cancel(job_id=spec.job_id, submission=status.submission)
        return Keep(job_id=spec.job_id, why=_why_not(status, request, tally) or Why.NOT_ASKED)
    why = _why_not(status, request, tally)
    if why is None and request.only is not None and spec.job_id not in request.only:
        why = Why.NOT_ASKED
    if why is None and not spec.resolved:
        why = Why.UNRESOLVED
    if why is None and any(_comes_later(item.job, states, request, tally) for item in spec.inputs):
        tally.later.add(spec.job_id)
        why = Why.COMING
    if why is None:
        missing = {item.job for item in spec.inputs if not _will_be_there(spec, item.job, known, states, tally)}
        why = None if not missing else Why.QUEUE_FULL if missing <= tally.beyond else Why.BLOCKED
    if why is None and request.stopped:
        why = Why.SWEEP_STOPPED
    if why is None and request.max_queued is not None and tally.queued >= request.max_queued:
        why = Why.QUEUE_FULL
    if why is Why.QUEUE_FULL:
        tally.beyond.add(spec.job_id)
    if why is not None:
        return Keep(job_id=spec.job_id, why=why)
    tally.coming.add(spec.job_id)
    tally.queued += 1
    return Submit(
        job_id=spec.job_id,
        attempt=status.next_attempt,
        resources=policy.bumped(spec.resources, status.failure, status.repeats),
        after=status.failure,
    )


def _why_not(status: JobStatus, request: Request, tally: _Tally) -> Why | None:
    """Say why a job's own state keeps it from being submitted; None when it does not."""
    match status.state:
        case State.SUCCEEDED:
            return Why.DONE
        case State.SUBMITTED | State.RUNNING:
            return Why.IN_FLIGHT
        case State.STOPPED if stays_stopped(status, tally.rules.get(status.job_id)):
            return Why.STOPPED
        case State.UNKNOWN:
            return Why.UNKNOWN
        case State.FAILED:
            return _why_failed_stays(status, request)
        case State.CANCELLED:
            return None if request.resume and not request.failures else Why.CANCELLED
        case State.INTERRUPTED | State.NEW | State.STOPPED:
            return Why.GAVE_UP if status.job_id in request.gave_up else None


def _why_failed_stays(status: JobStatus, request: Request) -> Why | None:
    kind = status.failure or FailureKind.ERROR
    lost = not policy.resumes(kind)
    if policy.goes_on(kind):
        return Why.NO_ROOM if status.job_id in request.tried | request.gave_up else None
    if status.job_id in request.gave_up or not request.resume:
        return Why.LOST_THE_PICK if lost else Why.FAILED
    if kind in request.failures:
        return None
    if request.failures:
        return Why.LOST_THE_PICK if lost else Why.FAILED
    return Why.LOST_THE_PICK if lost else None


def _comes_later(upstream: str, states: Mapping[str, JobStatus], request: Request, tally: _Tally) -> bool:
    """Tell whether an input is on its way to the scheduler with another client, or waits for one that is."""
    if upstream in tally.later:
        return True
    return upstream in request.unplaced and upstream in states and states[upstream].is_live


def _will_be_there(spec: JobSpec, upstream: str, known: Mapping[str, JobSpec], states: Mapping[str, JobStatus], tally: _Tally) -> bool:
    """Tell whether an input is done, on its way, or a candidate that a pick may go without."""
    if upstream in tally.coming:
        return True
    status = states.get(upstream)
    if status is None or upstream not in known:
        raise KeyError(f"{spec.short_id} {spec.trial}: its input {upstream} is not in the plan")
    if passes_over(spec, status):
        return True
    return status.state is State.SUCCEEDED or (status.is_live and upstream not in tally.going)
