"""What the jobs of a plan would take, by what their like took here and otherwise by their time limits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.spec import JobSpec, Json

_SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What jobs would take."""

    #: Seconds of work, summed over jobs; None while a kind of job among them never finished here.
    work: float | None
    #: GPU-hours of jobs whose like finished here.
    by_history: float
    #: GPU-hours of the others, if each ran to its time limit.
    by_limits: float

    @property
    def gpu_hours(self) -> float:
        """Return the most that is to be expected."""
        return self.by_history + self.by_limits


def cost_of(jobs: Iterable[JobSpec], seconds: Mapping[tuple[str, str], float]) -> Cost:
    """Sum what jobs would take, given the median seconds of each phase and stage that finished here."""
    work, by_history, by_limits, all_known = 0.0, 0.0, 0.0, True
    for job in jobs:
        took = seconds.get((job.phase, str(job.stage)))
        share = job.resources.gpus * job.resources.nodes / max(1, job.resources.pack)
        if took is None:
            all_known = False
            by_limits += share * job.resources.time_minutes * 60 / _SECONDS_AN_HOUR
        else:
            work += took
            by_history += share * took / _SECONDS_AN_HOUR
    return Cost(work=work if all_known else None, by_history=by_history, by_limits=by_limits)


def cost_json(cost: Cost) -> dict[str, Json]:
    """Return a cost for machines."""
    return {"work_seconds": cost.work, "gpu_hours_by_history": cost.by_history, "gpu_hours_by_limits": cost.by_limits}


def in_words(cost: Cost) -> str:
    """Say how many GPU-hours jobs would take; empty for those that use none."""
    parts = []
    if cost.by_history:
        parts.append(f"about {_hours(cost.by_history)} GPU-hours, by what its jobs took here so far")
    if cost.by_limits:
        more = " more" if parts else ""
        parts.append(f"at most {_hours(cost.by_limits)}{more} GPU-hours by the time limits of what never ran here")
    return ", and ".join(parts)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{max(hours, 0.01):.2g}"
