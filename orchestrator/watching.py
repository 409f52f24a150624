"""A live view of sweeps: counts, running jobs with their curves, why others wait, what failed; on a terminal `live` shows it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.spec import JobSpec, State
from orchestrator import scheduler
from orchestrator.console import out
from orchestrator.ledger import states
from orchestrator.model import Plan
from orchestrator.notify.teller import Teller
from orchestrator.progress import Progress, progress_of, sparkline
from orchestrator.scheduler import Answer
from orchestrator.standing import Standing, Standings, hours_in_words, standings_of, state_table, troubles, waits_in_words
from orchestrator.status import JobRow
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

#: Seconds between two questions to the scheduler, and between two looks at the files.
ASK_EVERY = 15.0
LOOK_EVERY = 2.0
#: Running jobs that are shown one by one.
SHOWN = 12
#: Lines of the end of a job's log.
LOG_LINES = 200
_LIVE = frozenset({State.SUBMITTED, State.RUNNING, State.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One running job."""

    row: JobRow
    sweep: str
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All that one look shows."""

    standings: Standings
    running: tuple[Running, ...]
    #: Running jobs that are not shown one by one.
    more: int = 0

    @property
    def is_over(self) -> bool:
        """Tell whether nothing is queued or running."""
        return not any(one.status.counts.get(state) for one in self.standings.sweeps for state in _LIVE)


class Watcher:
    """Looks at plans again and again, and asks the scheduler now and then."""

    def __init__(self, plans: Sequence[Plan], workspace: Workspace, *, now: Callable[[], float] = time.monotonic) -> None:
        self._plans = tuple(plans)
        self._specs = {plan.sweep: plan.by_id() for plan in plans}
        self._workspace = workspace
        self._now = now
        self._asked = now() - ASK_EVERY
        self._answer = Answer()
        #: Sweeps of which something was queued or running when somebody looked.
        self._seen_live: set[str] = set()
        self._telling: list[threading.Thread] = []
        self._untold: list[str] = []

    def standings(self) -> Standings:
        """Return where the plans stand now."""
        if self._now() - self._asked >= ASK_EVERY:
            self._answer = scheduler.ask(self._workspace.run, self._workspace.cluster)
            self._asked = self._now()
        found = standings_of(self._plans, self._workspace, self._answer)
        for one in found.sweeps:
            self._note_end(one)
        return found

    def look(self) -> Frame:
        """Return what there is to see now, with how far the first of the running jobs are."""
        found = self.standings()
        rows = [(one, row) for one in found.sweeps for row in one.status.jobs if row.state is State.RUNNING]
        running = tuple(self._running(one, row) for one, row in rows[:SHOWN])
        return Frame(standings=found, running=running, more=len(rows) - len(running))

    def _note_end(self, one: Standing) -> None:
        """Have people told, beside the view, of a sweep that was seen alive and has ended."""
        sweep = one.plan.sweep
        if any(one.status.counts.get(state) for state in _LIVE):
            self._seen_live.add(sweep)
        elif sweep in self._seen_live and self._workspace.cluster.notify is not None:
            self._seen_live.discard(sweep)
            self._telling.append(threading.Thread(target=self._tell, args=(one.plan,)))
            self._telling[-1].start()

    def _tell(self, plan: Plan) -> None:
        run = self._workspace.run
        known = states(run, [job.job_id for job in plan.jobs], polled=self._answer.sightings)
        Teller(plan, run, self._workspace.cluster, self._untold.append).ended(known)

    def untold(self) -> list[str]:
        """Wait until people were told of what has ended, and return why somebody was not."""
        for thread in self._telling:
            thread.join()
        return self._untold

    def _running(self, one: Standing, row: JobRow) -> Running:
        return Running(row=row, sweep=one.plan.sweep, progress=self.progress(row.job_id))

    def progress(self, job: str) -> Progress:
        """Return how far a job is, from its files."""
        return progress_of(self._spec(job), self._workspace.run.job(job))

    def details(self, job: str) -> list[str]:
        """Return what there is to say of a job, the end of its log last. Raises Error."""
        from orchestrator.explanation import explain_job, explanation_lines
        from orchestrator.output import tail_of

        told = explain_job(self._workspace, self._spec(job))
        log = tail_of(Path(str(told["log"])), LOG_LINES) if told["log"] else []
        return [*explanation_lines({**told, "last_lines": []}), "", *log]

    def cancel(self, jobs: Sequence[str]) -> str:
        """Cancel jobs and say what was done. Raises Error."""
        from orchestrator.submit import cancel

        left = cancel(self._workspace.run, self._workspace.cluster, jobs)
        asked = f"asked to cancel {_jobs(len(jobs))}; a running job saves first"
        return asked + (f"; nobody could be asked for {len(left)} of them" if left else "")

    def retry(self, jobs: Sequence[str]) -> str:
        """Start a `resume` of jobs for each sweep that has some, in a process of its own that outlives this view, and say so."""
        said: list[str] = []
        for plan in self._plans:
            own = [job for job in jobs if job in self._specs[plan.sweep]]
            if own and not plan.file:
                said.append(f"'{plan.sweep}' does not say which file it is from: orchestrate resume FILE")
            elif own:
                log = _resume_apart(plan, own, self._workspace)
                said.append(f"resumes {_jobs(len(own))} of '{plan.sweep}'; what it says is in {log}")
        return "; ".join(said)

    def _spec(self, job: str) -> JobSpec:
        return next(specs[job] for specs in self._specs.values() if job in specs)


def _resume_apart(plan: Plan, jobs: Sequence[str], workspace: Workspace) -> Path:
    log = workspace.run.sweep(plan.sweep).folder / "resume.log"
    command = [sys.executable, "-m", "orchestrator", "resume", plan.file, "--cluster", workspace.cluster_argument]
    command += ["--sample"] if workspace.sample else []
    command += [word for job in jobs for word in ("--jobs", job)]
    with log.open("ab") as file:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    return log


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number:,} jobs"


def watch(plans: Sequence[Plan], workspace: Workspace, *, once: bool = False) -> None:
    """Show plans: on a terminal until somebody types q, elsewhere until nothing of them is queued or running; `once` shows one frame."""
    console, watcher = out(), Watcher(plans, workspace)
    if once:
        console.print(drawn(watcher.look()))
        return
    # Ctrl-C ends the view and nothing else.
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty():
            from orchestrator.live.app import WatchApp

            WatchApp(watcher, _pause).run()
        elif _watch_plainly(watcher, console):
            console.print("nothing is queued or running", markup=False)
    for line in watcher.untold():
        console.print(line, markup=False)


def _watch_plainly(watcher: Watcher, console: Console) -> bool:
    """Print a line whenever something has changed, for logs and pipes, until it is over."""
    said: list[str] = []
    while True:
        begun = time.monotonic()
        frame = watcher.look()
        lines = plain_lines(frame)
        for line in lines:
            if line not in said:
                console.print(line, markup=False)
        said = lines
        if frame.is_over:
            return True
        time.sleep(_pause(begun))


def _pause(begun: float) -> float:
    """Return how long to wait: looking at a large run root must not be all that a login node does."""
    return max(LOOK_EVERY, 5 * (time.monotonic() - begun))


# --- drawing -----------------------------------------------------------------------------------------------------------------------------


def drawn(frame: Frame) -> RenderableType:
    """Draw one frame."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for one in frame.standings.sweeps:
        parts += [Text(f"{one.status.sweep}: {one.status.done} of {one.status.total} done", style="bold"), state_table(one.status)]
        parts += [Text(f"  {line}") for line in [*waits_in_words(one), *hours_in_words(one)]]
    if frame.running:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("running", "stage", "trial", "epoch", "step", "metric", "", "last"):
            table.add_column(name, no_wrap=True)
        for job in frame.running:
            table.add_row(*_cells(job))
        parts += [Text(""), table]
    if frame.more:
        parts.append(Text(f"  and {frame.more} more"))
    parts += [Text(f"  {line}") for one in frame.standings.sweeps for line in troubles(one.status)]
    if frame.standings.silence:
        parts.append(Text(f"files only: {frame.standings.silence}", style="bold"))
    return Group(*parts)


def _cells(job: Running) -> tuple[str, ...]:
    row, progress = job.row, job.progress
    epoch = progress.epoch if progress.epoch is not None else row.epoch
    last = f"{progress.values[-1]:.4g}" if progress.values else ""
    shown = ("" if value is None else str(value) for value in (epoch, progress.step))
    return (row.job_id[:12], str(row.stage), row.trial, *shown, progress.metric, sparkline(progress.values), last)


def plain_lines(frame: Frame) -> list[str]:
    """Return what a frame says where there is no terminal."""
    lines: list[str] = []
    for one in frame.standings.sweeps:
        counts = ", ".join(f"{number} {str(state).lower()}" for state, number in sorted(one.status.counts.items()))
        lines.append(f"{one.status.sweep}: {one.status.done} of {one.status.total} done; {counts}")
        lines += [f"  {line}" for line in [*waits_in_words(one), *troubles(one.status)]]
    return lines + ([f"files only: {frame.standings.silence}"] if frame.standings.silence else [])
