"""The live view on a terminal: jobs, failures by what went wrong, why others wait; cancel and retry.

Looking happens in a thread, and of a job's files only what is on the screen is read, so keys are answered at once with 10,000 jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input, Static

from jobs.spec import SHORT_ID, State
from orchestrator.errors import Error
from orchestrator.job_filter import fits, rank
from orchestrator.live.lines import Line, Lines, job_line, trouble_line
from orchestrator.live.screens import Confirm, Details
from orchestrator.progress import Progress
from orchestrator.standing import Standings, hours_in_words, troubles_of, waits_in_words
from orchestrator.status import JobRow

_KEYS = "/ filter 1 jobs 2 failures 3 waiting enter look c cancel r retry C R all q end"
#: Lines of the summary at the top at most: a terminal of 24 lines has to show jobs.
_SUMMARY = 6
_SHOWN_SWEEPS = 3


class Source(Protocol):
    """What the view asks and tells."""

    def standings(self) -> Standings:
        """Return where sweeps stand; slow."""
        ...

    def progress(self, job: str) -> Progress:
        """Return how far a job is, from its files."""
        ...

    def details(self, job: str) -> list[str]:
        """Return what there is to say of a job, its last lines at the end; slow."""
        ...

    def cancel(self, jobs: Sequence[str]) -> str:
        """Cancel jobs and return what was done, in words."""
        ...

    def retry(self, jobs: Sequence[str]) -> str:
        """Start a `resume` of jobs that outlives this view and return what was done, in words."""
        ...


class WatchApp(App[None]):
    """Sweeps, their jobs, and what a person may do with them."""

    CSS = """
    Screen { layout: vertical; }
    #summary { height: auto; max-height: 8; }
    Lines { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    Input { height: 1; border: none; padding: 0; display: none; }
    #title { height: 1; text-style: bold; }
    .keys { height: 1; text-style: dim; dock: bottom; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit"),
        Binding("slash", "filter"),
        Binding("escape", "unfilter"),
        Binding("1", "view('jobs')"),
        Binding("2", "view('failures')"),
        Binding("3", "view('waiting')"),
        Binding("enter", "look"),
        Binding("c", "cancel(False)"),
        Binding("C", "cancel(True)"),
        Binding("r", "retry(False)"),
        Binding("R", "retry(True)"),
    ]

    def __init__(self, source: Source, pause: Callable[[float], float]) -> None:
        super().__init__()
        self._source = source
        self._pause = pause
        self._found = Standings(sweeps=())
        self._view = "jobs"
        self._words = ""
        self._only: frozenset[str] | None = None
        self._said = ""

    # --- what is on the screen -----------------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Static("looking ...", id="summary", markup=False)
        yield Static("", id="title", markup=False)
        yield Lines(self._source.progress)
        yield Input(placeholder="state:failed phase:... or any text; enter keeps it, esc ends it")
        yield Static(_KEYS, classes="keys", id="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.run_worker(self._look_again, thread=True)

    def _look_again(self) -> None:
        """Look, show, wait, as long as the view is there. In a thread."""
        while self.is_running:
            begun = time.monotonic()
            try:
                found = self._source.standings()
            except Error as error:
                # A file that cannot be read now may be whole at the next look.
                self.call_from_thread(self._say, str(error))
            else:
                self.call_from_thread(self._show, found)
            until = time.monotonic() + self._pause(begun)
            while self.is_running and time.monotonic() < until:
                time.sleep(0.1)

    def _show(self, found: Standings) -> None:
        self._found = found
        self._draw()

    def _draw(self) -> None:
        lines = self._lines()
        self.query_one("#summary", Static).update("\n".join(summary(self._found)))
        views = "  ".join(f"[{name}]" if name == self._view else f" {name} " for name in ("jobs", "failures", "waiting"))
        narrowed = f"  {self._words}" if self._words else "" if self._only is None else "  of one failure"
        self.query_one("#title", Static).update(f"{views}  {len(lines):,}{narrowed}")
        self.query_one("#keys", Static).update(self._said or _KEYS)
        self.query_one(Lines).show(lines)

    def _lines(self) -> list[Line]:
        if self._view == "failures":
            return [trouble_line(one) for sweep in self._found.sweeps for one in troubles_of(sweep.status)]
        if self._view == "waiting":
            return [Line(parts=((text, Style()),)) for one in self._found.sweeps for text in waits_in_words(one)]
        rows = [row for one in self._found.sweeps for row in one.status.jobs if self._is_wanted(row)]
        return [job_line(row) for row in sorted(rows, key=rank)]

    def _is_wanted(self, row: JobRow) -> bool:
        return (self._only is None or row.job_id in self._only) and fits(row, self._words)

    def _say(self, text: str) -> None:
        """Show a sentence in the place of the keys until another key is typed."""
        self._said = text
        self._draw()

    def on_key(self) -> None:
        if self._said:
            self._say("")

    # --- keys ----------------------------------------------------------------------------------------------------------------------------

    def action_view(self, name: str) -> None:
        self._view, self._only, self._said = name, None, ""
        self._draw()

    def action_filter(self) -> None:
        self._view, box = "jobs", self.query_one(Input)
        box.display = True
        box.focus()
        self._draw()

    def action_unfilter(self) -> None:
        self.query_one(Input).value = self._words = self._said = ""
        self._only = None
        self._leave_filter()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        self._leave_filter()

    def _leave_filter(self) -> None:
        self.query_one(Input).display = False
        self.query_one(Lines).focus()
        self._draw()

    def action_look(self) -> None:
        line = self.query_one(Lines).selected
        if line is None or not line.jobs:
            return
        if self._view == "failures":
            self._view, self._only = "jobs", frozenset(line.jobs)
            self._draw()
        else:
            job = line.jobs[0]
            self.push_screen(Details(lambda: self._source.details(job)))

    def action_cancel(self, everything: bool) -> None:
        self._ask("cancel", self._meant(everything, State.RUNNING, State.SUBMITTED, State.UNKNOWN), self._source.cancel)

    def action_retry(self, everything: bool) -> None:
        self._ask("retry", self._meant(everything, State.FAILED, State.INTERRUPTED, State.CANCELLED), self._source.retry)

    def _meant(self, everything: bool, *states: State) -> list[JobRow]:
        """Return the jobs under the cursor, or all that are shown, of which something can be asked."""
        line = self.query_one(Lines).selected
        lines = self._lines() if everything else [line] if line is not None else []
        wanted = {job for one in lines for job in one.jobs}
        return [row for one in self._found.sweeps for row in one.status.jobs if row.job_id in wanted and row.state in states]

    def _ask(self, verb: str, rows: Sequence[JobRow], act: Callable[[Sequence[str]], str]) -> None:
        if not rows:
            self._say(f"nothing here to {verb}")
            return
        what = f"{rows[0].job_id[:SHORT_ID]} {rows[0].trial}" if len(rows) == 1 else f"{len(rows):,} jobs"

        def answered(yes: bool | None) -> None:
            if yes:
                self._say(f"{verb}: {what} ...")
                self.run_worker(lambda: self._act([row.job_id for row in rows], act), thread=True)

        self.push_screen(Confirm(f"{verb} {what}?"), answered)

    def _act(self, jobs: Sequence[str], act: Callable[[Sequence[str]], str]) -> None:
        try:
            said = act(jobs)
        except Error as error:
            said = str(error)
        self.call_from_thread(self._say, said)


def summary(found: Standings) -> list[str]:
    """Return what stands at the top: counts, GPU-hours and reasons to wait of each sweep, and whether the scheduler answers."""
    lines: list[str] = []
    for one in found.sweeps[:_SHOWN_SWEEPS]:
        counts = ", ".join(f"{number:,} {str(state).lower()}" for state, number in sorted(one.status.counts.items()))
        hours = "; ".join(hours_in_words(one))
        lines.append(f"{one.status.sweep}: {one.status.done:,} of {one.status.total:,} done; {counts}" + (f"; {hours}" if hours else ""))
    if len(found.sweeps) > _SHOWN_SWEEPS:
        lines.append(f"and {len(found.sweeps) - _SHOWN_SWEEPS} other sweeps; `orchestrate watch SWEEP` shows one")
    for one in found.sweeps:
        lines += waits_in_words(one)[:2]
    lines = lines[: _SUMMARY - 1]
    if found.silence:
        lines.append(f"files only: {found.silence}")
    elif not any(one.status.counts.get(state) for one in found.sweeps for state in (State.SUBMITTED, State.RUNNING, State.UNKNOWN)):
        lines.append("nothing is queued or running")
    return lines
