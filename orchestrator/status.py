"""Where a plan stands: rows for people, JSON for machines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from jobs.paths import RunPaths
from jobs.spec import FailureKind, JobSpec, Json, Stage, State
from orchestrator import policy
from orchestrator.decide import has_lost
from orchestrator.ledger import JobStatus, states
from orchestrator.model import Plan
from orchestrator.sightings import Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """One phase and stage."""

    phase: str
    stage: Stage
    total: int
    counts: Mapping[State, int]
    #: Candidates that diverged or collapsed; they are in `counts` as FAILED.
    lost: int
    #: Median seconds of a job that succeeded here; None before the first.
    seconds: float | None

    @property
    def done(self) -> int:
        """Return how many need nothing more: succeeded, lost, or stopped by their search."""
        return self.counts.get(State.SUCCEEDED, 0) + self.counts.get(State.STOPPED, 0) + self.lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Jobs that a scheduler lets wait for the same reason."""

    #: The scheduler's own word.
    reason: str
    number: int
    #: One of them, and what the scheduler calls it.
    job_id: str
    native: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job."""

    job_id: str
    phase: str
    stage: Stage
    trial: str
    state: State
    attempt: int
    failure: str | None
    #: What happened and what to do, for people; empty for a job in order.
    message: str
    seconds: float | None
    epoch: int | None
    #: Why a scheduler lets it wait, in its own word.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a whole plan stands."""

    sweep: str
    groups: tuple[GroupRow, ...]
    jobs: tuple[JobRow, ...]
    #: Seconds of work that is left, summed over jobs, where history tells; None while nothing of a needed kind has finished.
    work_left: float | None = None
    counts: Mapping[State, int] = field(default_factory=dict)
    #: Why jobs wait that were handed to a scheduler, the most frequent reason first.
    waits: tuple[Wait, ...] = ()

    @property
    def total(self) -> int:
        """Return how many jobs there are."""
        return len(self.jobs)

    @property
    def done(self) -> int:
        """Return how many jobs need nothing more."""
        return sum(group.done for group in self.groups)

    def eta(self, slots: int) -> float | None:
        """Return the seconds until the end with so many jobs side by side; None while history does not tell."""
        return None if self.work_left is None else self.work_left / max(1, slots)


def status(plan: Plan, run: RunPaths, *, polled: Mapping[str, Sighting] | None = None, now: float | None = None) -> Status:
    """Fold the run root into the rows of a plan. `now` (seconds since the epoch) lets running jobs count for what they have done."""
    found = states(run, (job.job_id for job in plan.jobs), polled=polled, details=True)
    return status_of(plan, found, now=now)


def status_of(plan: Plan, found: Mapping[str, JobStatus], *, now: float | None = None) -> Status:
    """Make the rows of a plan from the states of its jobs; pure. Raises KeyError when a job has no state."""
    grouped: defaultdict[tuple[str, Stage], list[JobSpec]] = defaultdict(list)
    for job in plan.jobs:
        grouped[job.phase, job.stage].append(job)
    groups = tuple(_group(phase, stage, [found[job.job_id] for job in jobs]) for (phase, stage), jobs in grouped.items())
    return Status(
        sweep=plan.sweep,
        groups=groups,
        jobs=tuple(_row(job, found[job.job_id]) for job in plan.jobs),
        work_left=_work_left(plan, found, groups, now),
        counts=Counter(found[job.job_id].state for job in plan.jobs),
        waits=_waits(plan, found),
    )


def to_json(status: Status) -> dict[str, Json]:
    """Return a status for machines."""
    return {
        "sweep": status.sweep,
        "total": status.total,
        "done": status.done,
        "counts": {str(state): number for state, number in sorted(status.counts.items())},
        "work_left_seconds": status.work_left,
        "groups": [
            {
                "phase": group.phase,
                "stage": str(group.stage),
                "total": group.total,
                "done": group.done,
                "lost": group.lost,
                "counts": {str(state): number for state, number in sorted(group.counts.items())},
                "median_seconds": group.seconds,
            }
            for group in status.groups
        ],
        "jobs": [
            {
                "job": row.job_id,
                "phase": row.phase,
                "stage": str(row.stage),
                "trial": row.trial,
                "state": str(row.state),
                "attempt": row.attempt,
                "failure": row.failure,
                "message": row.message,
                "seconds": row.seconds,
                "epoch": row.epoch,
                "reason": row.reason,
            }
            for row in status.jobs
        ],
    }


def explain(job: JobStatus) -> str:
    """Say in one line what happened to a job and what to do; empty for a job in order."""
    if job.state is State.UNKNOWN and not job.message:
        return "it was handed over, and neither it nor the scheduler says where it stands"
    if job.failure is None:
        return job.message
    follows = policy.sentence(job.failure)
    if job.for_people and job.failure in (FailureKind.ERROR, FailureKind.DISK_FULL):
        # What a person caused says itself what to do: the table would repeat it, or speak of code.
        follows = "" if job.failure is FailureKind.DISK_FULL else "put that right, then `resume`"
    return f"{job.message} ({follows})" if job.message and follows else job.message or follows


def _group(phase: str, stage: Stage, found: Sequence[JobStatus]) -> GroupRow:
    took = [job.seconds for job in found if job.state is State.SUCCEEDED and job.seconds is not None]
    return GroupRow(
        phase=phase,
        stage=stage,
        total=len(found),
        counts=Counter(job.state for job in found),
        lost=sum(has_lost(job) for job in found),
        seconds=median(took) if took else None,
    )


def _row(spec: JobSpec, job: JobStatus) -> JobRow:
    return JobRow(
        job_id=spec.job_id,
        phase=spec.phase,
        stage=spec.stage,
        trial=spec.trial,
        state=job.state,
        attempt=job.attempt,
        failure=str(job.failure) if job.failure is not None else None,
        message=explain(job),
        seconds=job.seconds,
        epoch=job.epoch,
        reason=_reason(job),
    )


def _reason(job: JobStatus) -> str:
    """Return why a scheduler lets a job wait; empty when it does not wait, and where there is no scheduler."""
    return (job.sighting.reason or "None") if job.sighting is not None and job.state is State.SUBMITTED else ""


def _waits(plan: Plan, found: Mapping[str, JobStatus]) -> tuple[Wait, ...]:
    """Group what waits by its reason."""
    groups: dict[str, list[JobStatus]] = {}
    for job in plan.jobs:
        status = found[job.job_id]
        if reason := _reason(status):
            groups.setdefault(reason, []).append(status)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return tuple(
        Wait(reason=reason, number=len(jobs), job_id=jobs[0].job_id, native=jobs[0].sighting.native if jobs[0].sighting else "")
        for reason, jobs in ordered
    )


def _work_left(plan: Plan, found: Mapping[str, JobStatus], groups: Sequence[GroupRow], now: float | None) -> float | None:
    """Sum what is left over jobs that may still run, each as long as the median of its phase and stage."""
    expected = {(group.phase, group.stage): group.seconds for group in groups}
    left = 0.0
    for job in plan.jobs:
        status = found[job.job_id]
        if status.state not in (State.NEW, State.SUBMITTED, State.RUNNING, State.INTERRUPTED):
            continue
        seconds = expected[job.phase, job.stage]
        if seconds is None:
            return None
        spent = now - status.started if now is not None and status.started is not None and status.state is State.RUNNING else 0.0
        left += max(0.0, seconds - spent)
    return left
