"""What `status` shows: where sweeps stand, why jobs wait, what went wrong, and what was used of what was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from jobs.spec import SHORT_ID, Json, State
from orchestrator import scheduler
from orchestrator.console import clock, out, without_ids
from orchestrator.model import Plan
from orchestrator.plans import read_plan
from orchestrator.scheduler import Answer, Efficiency, Scheduler, Used, Waiting, waiting_json
from orchestrator.status import JobRow, Status, Wait, status, to_json
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where one sweep stands, with what is known beyond its files."""

    plan: Plan
    status: Status
    #: Why jobs wait, in words, by the scheduler's own word.
    reasons: Mapping[str, Waiting] = field(default_factory=dict)
    #: What keeps jobs from starting though the queue would let them.
    brake: str = ""
    #: GPU-hours used, and the budget; None where nobody counts, and where there is none.
    gpu_hours: float | None = None
    budget: float | None = None
    efficiency: Efficiency | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standings:
    """Where sweeps of a run root stand, by one question to the scheduler."""

    sweeps: tuple[Standing, ...]
    #: Why nothing is known beyond the files; empty when the scheduler answered, and where there is none.
    silence: str = ""


def standings(workspace: Workspace, sweep: str | None = None, *, efficiency: bool = False) -> Standings:
    """Read where a submitted sweep stands, or all of them. Raises Error when the sweep was never submitted."""
    files = [workspace.plan_file(sweep)] if sweep else workspace.plan_files()
    if not files:
        return Standings(sweeps=())
    with ThreadPoolExecutor(max_workers=1) as asking:
        # Reading plans of thousands of jobs takes a moment, and so does a scheduler.
        asked = asking.submit(scheduler.ask, workspace.run, workspace.cluster)
        plans = [read_plan(file) for file in files]
        answer = asked.result()
    return standings_of(plans, workspace, answer, efficiency=efficiency)


def standings_of(plans: Sequence[Plan], workspace: Workspace, answer: Answer, *, efficiency: bool = False) -> Standings:
    """Read where plans stand, given what the scheduler said."""
    keeper = scheduler.of(workspace.cluster)
    now = time.time()
    found = [(plan, status(plan, workspace.run, polled=answer.sightings, now=now)) for plan in plans]
    return Standings(sweeps=tuple(_standing(*one, workspace, keeper, efficiency) for one in found), silence=answer.silence)


def _standing(plan: Plan, seen: Status, workspace: Workspace, keeper: Scheduler | None, efficiency: bool) -> Standing:
    if keeper is None:
        return Standing(plan=plan, status=seen)
    return Standing(
        plan=plan,
        status=seen,
        reasons={wait.reason: keeper.explain_wait(wait.reason, wait.native) for wait in seen.waits},
        brake=keeper.brake(workspace.run, plan.sweep),
        gpu_hours=keeper.gpu_hours(workspace.run, plan.sweep),
        budget=workspace.cluster.limits.gpu_hours,
        efficiency=keeper.efficiency(workspace.run, plan) if efficiency else None,
    )


def standings_json(found: Standings) -> list[dict[str, Json]]:
    """Return where sweeps stand for machines."""
    return [_json(one, found.silence) for one in found.sweeps]


def _json(one: Standing, silence: str) -> dict[str, Json]:
    content = to_json(one.status) | {
        "waiting": [{"jobs": wait.number, "such_as": wait.job_id, **waiting_json(_words(one, wait))} for wait in one.status.waits],
        "brake": one.brake,
        "gpu_hours": one.gpu_hours,
        "gpu_hours_budget": one.budget,
        "scheduler_silent": silence,
    }
    return content if one.efficiency is None else content | {"efficiency": asdict(one.efficiency)}


def _words(one: Standing, wait: Wait) -> Waiting:
    return one.reasons.get(wait.reason) or Waiting(reason=wait.reason, why=wait.reason)


# --- for people --------------------------------------------------------------------------------------------------------------------------


def print_standings(found: Standings) -> None:
    """Print where sweeps stand, why jobs wait, and what failed."""
    console = out()
    for one in found.sweeps:
        console.print(f"{one.status.sweep}: {one.status.done} of {one.status.total} done", style="bold", markup=False)
        console.print(state_table(one.status))
        for line in [*waits_in_words(one), *troubles(one.status), *hours_in_words(one)]:
            console.print(f"  {line}", markup=False)
        if one.efficiency is not None:
            print_efficiency(one.efficiency, console)
    if found.silence:
        console.print(f"files only: {found.silence}", markup=False, style="bold")


def state_table(seen: Status) -> Table:
    """Return states by phase and stage, one column a state that occurs."""
    from rich.table import Table

    states = [state for state in State if seen.counts.get(state)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("phase", "stage"):
        table.add_column(name)
    for state in states:
        table.add_column(str(state).lower(), justify="right")
    table.add_column("median", justify="right")
    for group in seen.groups:
        counts = [str(group.counts.get(state) or "") for state in states]
        table.add_row(group.phase, str(group.stage), *counts, "" if group.seconds is None else clock(group.seconds))
    return table


def waits_in_words(one: Standing) -> list[str]:
    """Return one line for each reason to wait, and one for what keeps the whole sweep from starting."""
    lines = [f"nothing of it starts: {one.brake}"] if one.brake else []
    for wait in one.status.waits[:_SHOWN]:
        words = _words(one, wait)
        then = f" ({words.then})" if words.then else ""
        lines.append(f"{_jobs(wait.number)} {'waits' if wait.number == 1 else 'wait'}: {words.why}{then} [{words.reason}]")
    return lines


def hours_in_words(one: Standing) -> list[str]:
    """Return the line of the GPU-hours, where they are counted or have a budget."""
    if not one.gpu_hours and one.budget is None:
        return []
    used = one.gpu_hours or 0.0
    if one.budget is None:
        return [f"{used:.3g} GPU-hours used"]
    return [f"{used:.3g} of {one.budget:g} GPU-hours used, {max(0.0, one.budget - used):.3g} left"]


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number:,} jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that went wrong, and the jobs that it went wrong for; their messages differ in ids at most."""

    state: State
    rows: tuple[JobRow, ...]


def troubles_of(seen: Status) -> list[Trouble]:
    """Return each different thing that went wrong, the most frequent first."""
    groups: dict[tuple[State, str], list[JobRow]] = {}
    for row in seen.jobs:
        if row.state in (State.FAILED, State.INTERRUPTED, State.UNKNOWN):
            groups.setdefault((row.state, without_ids(row.message)), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [Trouble(state=state, rows=tuple(rows)) for (state, _), rows in ordered]


def troubles(seen: Status) -> list[str]:
    """Return one line for each different thing that went wrong, the most frequent first, with a job that shows it."""
    found = troubles_of(seen)
    lines = [
        f"{len(one.rows)} {str(one.state).lower()}, such as {one.rows[0].job_id[:SHORT_ID]} {one.rows[0].trial}: {one.rows[0].message}"
        for one in found[:_SHOWN]
    ]
    if len(found) > _SHOWN:
        lines.append(f"... and {len(found) - _SHOWN} other kinds of trouble (--json lists all)")
    return lines


def print_efficiency(found: Efficiency, console: Console) -> None:
    """Print what was asked for and what was used, by phase, and what to ask for next time."""
    from rich.table import Table

    if found.rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("phase", "stages"):
            table.add_column(name, no_wrap=True)
        for name in ("runs", "GPU-h", "lost", "memory", "asked", "longest", "limit"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in found.rows:
            table.add_row(row.phase, row.stages, str(row.runs), f"{row.gpu_hours:.2f}", f"{row.lost_gpu_hours:.2f}", *_used_and_asked(row))
        console.print(table)
    for row in found.rows:
        if row.lost_runs:
            ended = ", ".join(f"{number} {word.lower()}" for word, number in row.lost_runs.items())
            console.print(f"  {row.phase}: of {row.runs} runs for {row.allocations} allocations: {ended}", markup=False)
    for row in found.rows:
        for line in row.advice:
            console.print(f"  {row.phase}: {line}", markup=False)
    console.print(f"  {found.gpu_hours:.3g} GPU-hours together" + (f"; {found.note}" if found.note else ""), markup=False)


def _used_and_asked(row: Used) -> Iterator[str]:
    for megabytes in (row.memory_used_mb, row.memory_asked_mb):
        yield "?" if megabytes is None else f"{megabytes / 1024:.1f} G"
    for hours in (row.hours_used, row.hours_asked):
        yield "?" if hours is None else clock(3600 * hours)
