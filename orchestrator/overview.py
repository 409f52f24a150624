"""What `plan`, `status`, `explain` and `logs` show: values first, then the words for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from jobs.spec import JobSpec, Json, Stage, State
from orchestrator.console import clock, count_table, out
from orchestrator.decide import stays_stopped
from orchestrator.identity import PlanChanges, plan_changes
from orchestrator.ledger import JobStatus, states
from orchestrator.model import MANY_JOBS, Plan
from orchestrator.plans import read_plan
from orchestrator.searches import contests_of
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 8
_FOLLOW_EVERY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A plan set against what is there."""

    plan: Plan
    changes: PlanChanges
    cluster: str
    backend: str
    #: Seconds of work that is left by history of the same phase and stage; None for kinds that never ran here.
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    unresolved: str = ""

    @property
    def work(self) -> list[JobSpec]:
        """Return the jobs that would run."""
        return [*self.changes.new, *(one.job for one in self.changes.changed), *self.changes.unfinished]


def overview(plan: Plan, workspace: Workspace) -> Overview:
    """Compare a plan with the run root."""
    run = workspace.run
    path = run.sweep(plan.sweep).plan
    stored = read_plan(path) if path.exists() else None
    known = states(run, [job.job_id for job in plan.jobs], polled=workspace.sightings(), details=True)
    unresolved = "" if all(job.resolved for job in plan.jobs) else workspace.resolver.first_unresolved()
    rules = {job: contest.rule for job, contest in contests_of(plan.jobs).items()}
    # What another search stopped goes on here.
    goes_on = {job for job, status in known.items() if status.state is State.STOPPED and not stays_stopped(status, rules.get(job))}
    stand = {job: State.INTERRUPTED if job in goes_on else status.state for job, status in known.items()}
    return Overview(
        plan=plan,
        changes=plan_changes(plan, stored, stand),
        cluster=workspace.cluster.name,
        backend=workspace.cluster.backend,
        seconds=_history(workspace, known, plan),
        unresolved=unresolved,
    )


def _history(workspace: Workspace, known: Mapping[str, JobStatus], plan: Plan) -> dict[tuple[str, str], float]:
    """Return the median seconds by phase and stage over what succeeded here, this plan's jobs first, then any sweep's of that trainer."""
    took: dict[tuple[str, str], list[float]] = {}
    for job in plan.jobs:
        seconds = known[job.job_id].seconds
        if known[job.job_id].state is State.SUCCEEDED and seconds is not None:
            took.setdefault((job.phase, str(job.stage)), []).append(seconds)
    return {key: median(values) for key, values in took.items()}


def overview_json(view: Overview) -> dict[str, Json]:
    """Return an overview for machines."""
    changes = view.changes
    return {
        "sweep": view.plan.sweep,
        "jobs": len(view.plan.jobs),
        "counts": dict(changes.counts),
        "stages": {str(stage): sum(job.stage is stage for job in view.plan.jobs) for stage in Stage},
        "phases": list(dict.fromkeys(job.phase for job in view.plan.jobs)),
        "notes": list(view.plan.notes),
        "sample": view.plan.sample,
        "made_data": view.plan.made_data,
        "unresolved": view.unresolved,
        "new": [_line(job) for job in changes.new],
        "reused": [_line(job) for job in changes.reused],
        "unfinished": [_line(job) for job in changes.unfinished],
        "changed": [{**_line(one.job), "before": one.before.job_id, "why": list(one.why)} for one in changes.changed],
        "gone": [_line(job) for job in changes.gone],
    }


def _line(job: JobSpec) -> dict[str, Json]:
    return {"job": job.job_id if job.resolved else "unresolved", "stage": str(job.stage), "trial": job.trial}


def print_overview(view: Overview, sweep: Path) -> None:
    """Print an overview for people."""
    console = out()
    plan, changes = view.plan, view.changes
    console.print(f"{sweep}: {len(plan.jobs):,} jobs for '{view.cluster}' ({view.backend})", markup=False, style="bold")
    if plan.sample:
        console.print("made data, stand-in weights: numbers mean nothing", style="bold")
    elif plan.made_data:
        console.print("made data: the numbers say nothing about patients")
    console.print(count_table(plan))
    for sign, words, jobs in (
        ("+", "new", changes.new),
        ("=", "done and reused", changes.reused),
        ("…", "submitted before, not done", changes.unfinished),
        ("~", "changed", [one.job for one in changes.changed]),
        ("-", "no longer in the sweep (submit --prune cancels them)", changes.gone),
    ):
        if jobs:
            console.print(f"{sign} {len(jobs):,} {words}", markup=False)
    for one in changes.changed[:_SHOWN]:
        console.print(f"    {one.job.trial} ({one.job.stage}): {'; '.join(one.why)}", markup=False)
    _print_cost(view, console)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    if view.unresolved:
        console.print(f"unresolved: {view.unresolved}", markup=False, style="bold")
    if len(plan.jobs) > MANY_JOBS:
        console.print(f"more than {MANY_JOBS:,} jobs: submit asks for --yes", markup=False)


def _print_cost(view: Overview, console: Console) -> None:
    work = view.work
    if not work:
        return
    known = [view.seconds.get((job.phase, str(job.stage))) for job in work]
    total = sum(seconds for seconds in known if seconds is not None)
    asked = sum(job.resources.gpus * job.resources.time_minutes for job in work if job.stage is Stage.TRAIN) / 60
    if all(seconds is not None for seconds in known):
        console.print(f"about {clock(total)} of work left, by what its jobs took here so far", markup=False)
    elif asked:
        console.print(f"at most {asked:,.0f} GPU-hours by the time limits of its train jobs (no history here yet)", markup=False)
