"""What people see in a terminal: plans, states, and a live line that becomes plain lines where there is no terminal."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from statistics import median
from typing import TYPE_CHECKING

from jobs.spec import JobSpec, Stage
from orchestrator.model import Plan

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from orchestrator.preparing import Item

#: What everything that a sample prints begins with.
SAMPLE_BANNER = "made data, and stand-ins for weights: numbers mean nothing"
_PLAIN_EVERY_SECONDS = 15.0
#: Columns of a table that goes to a file or a pipe.
_WIDE = 160
#: A job's id, short or whole, with the folder of its shard before it.
_JOB_ID = re.compile(r"(?:\b[0-9a-f]{2}/)?\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")


def out(*, quiet: bool = False) -> Console:
    """Return a console on the real standard output: a job that runs in this process cannot capture it."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDE
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, quiet=quiet, width=width)


def count_table(plan: Plan) -> Table:
    """Return jobs by phase and stage."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("phase")
    for stage in Stage:
        table.add_column(str(stage), justify="right")
    counts = Counter((job.phase, job.stage) for job in plan.jobs)
    for phase in dict.fromkeys(job.phase for job in plan.jobs):
        table.add_row(phase, *(str(counts[(phase, stage)] or "") for stage in Stage))
    totals = Counter(job.stage for job in plan.jobs)
    table.add_row("together", *(str(totals[stage] or "") for stage in Stage), style="bold")
    return table


def clock(seconds: float) -> str:
    """Write a duration for people: `48 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def without_ids(message: str) -> str:
    """Return a message without the jobs that it names: what is left is the same for the same trouble."""
    return _JOB_ID.sub("…", message)


class Decoding:
    """Progress of decoding images: a bar on a terminal, and what is done as plain lines."""

    def __init__(self, items: Sequence[Item]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._tasks = {item.title: self._bar.add_task(item.title, total=item.images) for item in items}

    def __enter__(self) -> Decoding:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, item: Item, images: int) -> None:
        """Count images that are decoded."""
        self._bar.advance(self._tasks[item.title], images)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


class Following:
    """Progress of a submission: a bar with an estimate on a terminal, a plain line now and then elsewhere."""

    def __init__(
        self, console: Console, jobs: Sequence[JobSpec], done: Collection[str], *, now: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console = console
        self._now = now
        self._names = {job.job_id: job.trial for job in jobs}
        self._kinds = {job.job_id: (job.phase, job.stage) for job in jobs}
        self._waiting = Counter(kind for job, kind in self._kinds.items() if job not in done)
        self._took: defaultdict[tuple[str, Stage], list[float]] = defaultdict(list)
        self._running: dict[str, float] = {}
        self._at_once = 1
        self._total, self._done = len(jobs), len(done)
        self._noted: set[str] = set()
        self._last_line = now()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rest]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=self._total, completed=self._done, rest="")

    def __enter__(self) -> Following:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def started(self, job: str) -> None:
        """Show a job that just started."""
        self._running[job] = self._now()
        self._at_once = max(self._at_once, len(self._running))
        self._bar.update(self._task, description=self._names.get(job, job[:12])[:60])

    def ended(self, job: str, *, failed: bool = False, message: str = "") -> None:
        """Count a job that ended; the first failure of a kind gets a line, at once."""
        self._done += 1
        kind = self._kinds.get(job)
        if kind is not None:
            self._waiting[kind] -= 1
            if job in self._running:
                self._took[kind].append(self._now() - self._running.pop(job))
        if failed:
            self._note_once(job, message)
        self._bar.update(self._task, completed=self._done, rest=self.rest())
        if not self._console.is_terminal and self._now() - self._last_line >= _PLAIN_EVERY_SECONDS:
            self._last_line = self._now()
            self._console.print(f"{self._done}/{self._total} jobs  {self.rest()}")

    def _note_once(self, job: str, message: str) -> None:
        """Print the first failure of each kind; how many there were stands in the summary."""
        kind = without_ids(message)
        if kind not in self._noted:
            self._noted.add(kind)
            self.note(f"failed: {job[:12]} {self._names.get(job, '')}: {message}")

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False)

    def rest(self) -> str:
        """Return the time that is left, each job taken as long as its like; nothing while a kind that is left was never seen."""
        left = {kind: number for kind, number in self._waiting.items() if number > 0}
        if not left or any(not self._took[kind] for kind in left):
            return ""
        seconds = sum(number * median(self._took[kind]) for kind, number in left.items()) / self._at_once
        return f"about {clock(seconds)} left"
