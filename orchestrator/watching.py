"""A live view of sweeps: counts, running jobs with their curves, why others wait, what failed last. It reads, and changes nothing."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.spec import JobSpec, State
from orchestrator import scheduler
from orchestrator.console import out
from orchestrator.model import Plan
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

    def look(self) -> Frame:
        """Return what there is to see now."""
        if self._now() - self._asked >= ASK_EVERY:
            self._answer = scheduler.ask(self._workspace.run, self._workspace.cluster)
            self._asked = self._now()
        found = standings_of(self._plans, self._workspace, self._answer)
        rows = [(one, row) for one in found.sweeps for row in one.status.jobs if row.state is State.RUNNING]
        running = tuple(self._running(one, row) for one, row in rows[:SHOWN])
        return Frame(standings=found, running=running, more=len(rows) - len(running))

    def _running(self, one: Standing, row: JobRow) -> Running:
        spec: JobSpec = self._specs[one.plan.sweep][row.job_id]
        return Running(row=row, sweep=one.plan.sweep, progress=progress_of(spec, self._workspace.run.job(row.job_id)))


def watch(plans: Sequence[Plan], workspace: Workspace, *, once: bool = False) -> None:
    """Show plans until nothing of them is queued or running, or somebody types q or Ctrl-C; `once` shows one frame."""
    console, watcher = out(), Watcher(plans, workspace)
    if once:
        console.print(drawn(watcher.look()))
        return
    # Ctrl-C ends the view and nothing else.
    with contextlib.suppress(KeyboardInterrupt):
        if (_watch_live if console.is_terminal else _watch_plainly)(watcher, console):
            console.print("nothing is queued or running", markup=False)


def _watch_live(watcher: Watcher, console: Console) -> bool:
    """Draw over the last frame until it is over (True), or somebody types q."""
    from rich.live import Live

    with _keys() as pressed, Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            begun = time.monotonic()
            frame = watcher.look()
            live.update(drawn(frame, footer="q ends this view; the jobs go on"), refresh=True)
            if frame.is_over:
                return True
            if pressed(_pause(begun)):
                return False


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


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Give a function that waits for so many seconds and tells whether q was typed meanwhile."""
    if not sys.stdin.isatty():
        yield lambda seconds: bool(time.sleep(seconds))
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)

    def pressed(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([sys.stdin], [], [], left)
            if ready and os.read(sys.stdin.fileno(), 1) in (b"q", b"Q", b""):
                return True
        return False

    try:
        tty.setcbreak(sys.stdin)
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


# --- drawing -----------------------------------------------------------------------------------------------------------------------------


def drawn(frame: Frame, footer: str = "") -> RenderableType:
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
    return Group(*parts, *([Text(footer, style="dim")] if footer else []))


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
