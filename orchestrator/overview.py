"""What `plan` shows: a plan set against what is there, what it would cost and when it would start. Values first, then words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from jobs.spec import JobSpec, Json, Stage, State
from orchestrator import scheduler
from orchestrator.console import SAMPLE_BANNER, clock, count_table, out
from orchestrator.costs import Cost, cost_json, cost_of, in_words
from orchestrator.decide import decide, stays_stopped
from orchestrator.identity import PlanChanges, plan_changes
from orchestrator.ledger import JobStatus, states
from orchestrator.model import MANY_JOBS, Plan
from orchestrator.plans import read_plan
from orchestrator.rounds import queued_jobs
from orchestrator.scheduler import Forecast, Scheduler
from orchestrator.searches import contests_of
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

_SHOWN = 8


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
    #: When it would start, and the GPU-hours that it used so far, where a scheduler keeps a queue.
    forecast: Forecast | None = None
    gpu_hours: float | None = None
    budget: float | None = None

    @property
    def cost(self) -> Cost:
        """Return what it would take to run them."""
        return cost_of(self.work, self.seconds)

    @property
    def work(self) -> list[JobSpec]:
        """Return the jobs that would run."""
        return [*self.changes.new, *(one.job for one in self.changes.changed), *self.changes.unfinished]


def overview(plan: Plan, workspace: Workspace) -> Overview:
    """Compare a plan with the run root."""
    run = workspace.run
    path = run.sweep(plan.sweep).plan
    stored = read_plan(path) if path.exists() else None
    answer = scheduler.ask(run, workspace.cluster)
    ids = dict.fromkeys(job.job_id for one in (plan, stored) if one is not None for job in one.jobs)
    known = states(run, ids, polled=answer.sightings, details=True)
    unresolved = "" if all(job.resolved for job in plan.jobs) else workspace.resolver.first_unresolved()
    rules = {job: contest.rule for job, contest in contests_of(plan.jobs).items()}
    # What another search stopped goes on here.
    goes_on = {job for job, status in known.items() if status.state is State.STOPPED and not stays_stopped(status, rules.get(job))}
    stand = {job: State.INTERRUPTED if job in goes_on else status.state for job, status in known.items()}
    keeper = scheduler.of(workspace.cluster)
    return Overview(
        plan=plan,
        changes=plan_changes(plan, stored, stand),
        cluster=workspace.cluster.name,
        backend=workspace.cluster.backend,
        seconds=_history(plan, stored, known),
        unresolved=unresolved,
        forecast=None if keeper is None else _forecast(plan, workspace, known, keeper, answer.silence),
        gpu_hours=None if keeper is None else keeper.gpu_hours(run, plan.sweep),
        budget=workspace.cluster.limits.gpu_hours,
    )


def _history(plan: Plan, stored: Plan | None, known: Mapping[str, JobStatus]) -> dict[tuple[str, str], float]:
    """Return the median seconds by phase and stage over what succeeded here of this plan, and of the one that was submitted before."""
    took: dict[tuple[str, str], list[float]] = {}
    for job in {one.job_id: one for one in [*plan.jobs, *(stored.jobs if stored else ())]}.values():
        status = known[job.job_id]
        if status.state is State.SUCCEEDED and status.seconds is not None:
            took.setdefault((job.phase, str(job.stage)), []).append(status.seconds)
    return {key: median(values) for key, values in took.items()}


def _forecast(plan: Plan, workspace: Workspace, known: Mapping[str, JobStatus], keeper: Scheduler, silence: str) -> Forecast:
    """Ask when what would be submitted now would start. Raises BackendError for a job that no partition can hold."""
    queued = queued_jobs(plan, workspace.run, known, decide(plan, known))
    if silence:
        return Forecast(note=f"no expected start: {silence}")
    return keeper.forecast(plan.sweep, queued)


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
        **({"contamination": [asdict(one) for one in view.plan.contamination]} if view.plan.contamination else {}),
        "unresolved": view.unresolved,
        "new": [_line(job) for job in changes.new],
        "reused": [_line(job) for job in changes.reused],
        "unfinished": [_line(job) for job in changes.unfinished],
        "changed": [{**_line(one.job), "before": one.before.job_id, "why": list(one.why)} for one in changes.changed],
        "gone": [_line(job) for job in changes.gone],
        "cost": cost_json(view.cost),
        "gpu_hours": view.gpu_hours,
        "gpu_hours_budget": view.budget,
        "starts": asdict(view.forecast) if view.forecast is not None else None,
    }


def _line(job: JobSpec) -> dict[str, Json]:
    return {"job": job.job_id if job.resolved else "unresolved", "stage": str(job.stage), "trial": job.trial}


def print_overview(view: Overview, sweep: Path) -> None:
    """Print an overview for people."""
    console = out()
    plan, changes = view.plan, view.changes
    console.print(f"{sweep}: {len(plan.jobs):,} jobs for '{view.cluster}' ({view.backend})", markup=False, style="bold")
    if plan.sample:
        console.print(SAMPLE_BANNER, style="bold")
    elif plan.made_data:
        console.print("made data: the numbers say nothing about patients")
    for one in plan.contamination:
        console.print(f"contamination allowed: {one.sentence}", markup=False, style="bold")
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
    if not view.work:
        return
    if view.cost.work is not None:
        console.print(f"about {clock(view.cost.work)} of work left, by what its jobs took here so far", markup=False)
    for line in [in_words(view.cost), *_starts(view.forecast), _budget(view)]:
        if line:
            console.print(line, markup=False)


def _starts(forecast: Forecast | None) -> Iterator[str]:
    """Yield when each thing that is asked for would start."""
    if forecast is None:
        return
    for start in forecast.starts:
        many = "1 allocation" if start.allocations == 1 else f"{start.allocations:,} allocations"
        said = f"the first would start at {start.when}" if start.when else f"no expected start: {start.note}"
        yield f"{many} of {start.asked}: {said}"
    yield forecast.note


def _budget(view: Overview) -> str:
    """Say what is left of the GPU-hours that the cluster config allows a sweep."""
    if view.budget is None or view.gpu_hours is None:
        return ""
    left = view.budget - view.gpu_hours
    said = f"{view.gpu_hours:.3g} of {view.budget:g} GPU-hours of its budget are used"
    return said if view.cost.gpu_hours <= left else f"{said}: what would run may need more than is left, and stops there"
