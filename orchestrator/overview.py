"""What `plan`, `status`, `explain` and `logs` show: values first, then the words for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from jobs.paths import JobPaths
from jobs.spec import SHORT_ID, JobSpec, Json, Stage, State
from orchestrator.console import clock, count_table, out, without_ids
from orchestrator.decide import stays_stopped
from orchestrator.errors import Error
from orchestrator.identity import PlanChanges, code_version, diff_specs, plan_changes
from orchestrator.ledger import JobStatus, state_of, states
from orchestrator.model import MANY_JOBS, Plan
from orchestrator.plans import read_plan
from orchestrator.searches import contests_of
from orchestrator.status import JobRow, Status
from orchestrator.status import explain as in_words
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


def print_status(found: Sequence[Status]) -> None:
    """Print where sweeps stand, and what failed."""
    from rich.table import Table

    console = out()
    for one in found:
        console.print(f"{one.sweep}: {one.done} of {one.total} done", style="bold", markup=False)
        seen = [state for state in State if one.counts.get(state)]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("phase", "stage"):
            table.add_column(name)
        for state in seen:
            table.add_column(str(state).lower(), justify="right")
        table.add_column("median", justify="right")
        for group in one.groups:
            counts = [str(group.counts.get(state) or "") for state in seen]
            table.add_row(group.phase, str(group.stage), *counts, "" if group.seconds is None else clock(group.seconds))
        console.print(table)
        for line in troubles(one):
            console.print(f"  {line}", markup=False)


def troubles(status: Status) -> list[str]:
    """Return one line for each different thing that went wrong, the most frequent first, with a job that shows it."""
    groups: dict[tuple[State, str], list[JobRow]] = {}
    for row in status.jobs:
        if row.state in (State.FAILED, State.INTERRUPTED, State.UNKNOWN):
            groups.setdefault((row.state, without_ids(row.message)), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    lines = [
        f"{len(rows)} {str(state).lower()}, such as {rows[0].job_id[:SHORT_ID]} {rows[0].trial}: {rows[0].message}"
        for (state, _), rows in ordered[:_SHOWN]
    ]
    if len(ordered) > _SHOWN:
        lines.append(f"... and {len(ordered) - _SHOWN} other kinds of trouble (--json lists all)")
    return lines


def explain_job(workspace: Workspace, spec: JobSpec) -> dict[str, Json]:
    """Return what there is to say of one job."""
    polled = workspace.sightings()
    status = state_of(workspace.run, spec.job_id, polled=polled, details=True)
    paths = workspace.run.job(spec.job_id)
    inputs = states(workspace.run, [item.job for item in spec.inputs], polled=polled)
    return {
        "job": spec.job_id,
        "what": f"{spec.stage} {spec.trial}",
        "sweep": spec.sweep,
        "state": str(status.state),
        "attempt": status.attempt,
        "why": in_words(status),
        "waits_for": sorted(
            f"{job[:SHORT_ID]} ({str(one.state).lower()})" for job, one in inputs.items() if one.state is not State.SUCCEEDED
        ),
        "folder": str(paths.folder),
        "last_lines": _tail(paths, 12) if status.state in (State.FAILED, State.INTERRUPTED) else [],
        "would_run_again": _would_run_again(workspace, spec),
        "trainer": f"{spec.trainer} version {spec.trainer_version}",
        "config": dict(spec.config),
        "code_now": str(code_version()),
    }


def _would_run_again(workspace: Workspace, spec: JobSpec) -> list[str]:
    """Say what differs between the job and what its sweep file asks for now under the same labels; empty when nothing does."""
    stored = workspace.stored_plan(spec.sweep)
    if not stored.file or not Path(stored.file).exists():
        return []
    now = workspace.plan(Path(stored.file))
    for job in now.jobs:
        if (job.phase, job.stage, dict(job.labels)) == (spec.phase, spec.stage, dict(spec.labels)) and job.job_id != spec.job_id:
            from jobs.spec import spec_to_json

            return diff_specs(spec_to_json(spec), job)
    return []


def print_explanation(told: Mapping[str, Json]) -> None:
    """Print what there is to say of one job."""
    console = out()
    console.print(f"{told['job'][:SHORT_ID]}  {told['what']}  of sweep '{told['sweep']}'", style="bold", markup=False)
    console.print(
        f"state: {str(told['state']).lower()}, attempt {told['attempt']}{': ' + told['why'] if told['why'] else ''}", markup=False
    )
    for line in told["waits_for"]:
        console.print(f"waits for {line}", markup=False)
    for line in told["would_run_again"]:
        console.print(f"the sweep file now asks for another: {line}", markup=False)
    for line in told["last_lines"]:
        console.print(f"  | {line}", markup=False)
    console.print(f"trainer: {told['trainer']}", markup=False)
    console.print("config: " + ", ".join(f"{key}={value}" for key, value in sorted(told["config"].items())), markup=False)
    console.print(f"files: {told['folder']}", markup=False)


def log_of(workspace: Workspace, spec: JobSpec) -> Path:
    """Return the output of a job's last attempt. Raises Error when it was never started."""
    attempts = workspace.run.job(spec.job_id).attempts()
    started = [attempt for attempt in attempts if attempt.stdout.exists()]
    if not started:
        raise Error(f"{spec.short_id} {spec.trial} was never started; `orchestrate explain {spec.short_id}` says what it waits for")
    return started[-1].stdout


def follow_log(path: Path, *, forever: bool) -> Iterator[str]:
    """Yield a file's text, and with `forever` what is added to it."""
    while not path.exists() and forever:
        time.sleep(_FOLLOW_EVERY)
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            piece = file.read()
            if piece:
                yield piece
            elif not forever:
                return
            else:
                time.sleep(_FOLLOW_EVERY)


def _tail(paths: JobPaths, count: int) -> list[str]:
    attempts = paths.attempts()
    if not attempts or not attempts[-1].stdout.exists():
        return []
    return attempts[-1].stdout.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
