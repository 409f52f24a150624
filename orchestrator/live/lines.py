"""Lists of lines of which those are drawn that can be seen, and what a line says of a job or of a failure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from jobs.spec import State
from orchestrator.console import clock
from orchestrator.progress import Progress, sparkline
from orchestrator.standing import Trouble
from orchestrator.status import JobRow

if TYPE_CHECKING:
    from textual.events import Resize

_COLOURS = {State.RUNNING: "cyan", State.SUCCEEDED: "green", State.FAILED: "red", State.INTERRUPTED: "yellow", State.UNKNOWN: "yellow"}
_SPARK = 12
#: Letters of an id: more than a command needs, and fewer than would push the rest off a narrow terminal.
_ID = 8
#: Seconds that what was read of a running job is shown for.
_FRESH = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a list: text by style, the jobs that it stands for, and whether its pace and curve are to be added."""

    parts: tuple[tuple[str, Style], ...]
    jobs: tuple[str, ...] = ()
    running: bool = False


class Lines(ScrollView, can_focus=True):
    """A list of lines with a cursor, of which those are drawn that can be seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
    ]

    def __init__(self, progress: Callable[[str], Progress]) -> None:
        super().__init__()
        self._progress = progress
        self._known: dict[str, tuple[float, Progress]] = {}
        self._lines: Sequence[Line] = ()
        self.cursor = 0

    def show(self, lines: Sequence[Line]) -> None:
        """Show other lines; the cursor stays on its job where it is still there."""
        held = self.selected
        self._lines = lines
        at = next((n for n, line in enumerate(lines) if held is not None and line.jobs and line.jobs == held.jobs), self.cursor)
        self.cursor = min(max(0, at), max(0, len(lines) - 1))
        self.virtual_size = Size(self.size.width, len(lines))
        self._follow_cursor()
        self.refresh()

    @property
    def selected(self) -> Line | None:
        """Return the line under the cursor."""
        return self._lines[self.cursor] if self.cursor < len(self._lines) else None

    def on_resize(self, event: Resize) -> None:
        self.virtual_size = Size(event.size.width, len(self._lines))

    def action_move(self, by: int) -> None:
        self.cursor = min(max(0, self.cursor + by), max(0, len(self._lines) - 1))
        self._follow_cursor()
        self.refresh()

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.size.height - 1))

    def _follow_cursor(self) -> None:
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if not top <= self.cursor < top + height:
            self.scroll_to(y=self.cursor if self.cursor < top else self.cursor - height + 1, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        """Draw one line of those that can be seen."""
        at, width = self.scroll_offset.y + y, self.size.width
        if at >= len(self._lines):
            return Strip.blank(width)
        line = self._lines[at]
        marked = Style(reverse=at == self.cursor)
        parts = [*line.parts, *self._pace(line)]
        strip = Strip([Segment(text, style + marked) for text, style in parts])
        return strip.extend_cell_length(width, marked).crop(0, width)

    def _pace(self, line: Line) -> list[tuple[str, Style]]:
        if not line.running:
            return []
        age, found = self._known.get(line.jobs[0], (0.0, None))
        if found is None or time.monotonic() - age > _FRESH:
            found = self._progress(line.jobs[0])
            self._known[line.jobs[0]] = (time.monotonic(), found)
        return [(f" {text}", Style()) for text in pace_words(found)]


def pace_words(found: Progress) -> list[str]:
    """Return how far a running job is, in few words: epochs, the curve of its metric, time left, images a second."""
    words: list[str] = []
    if found.epoch is not None:
        words.append(f"{found.epoch}/{found.epochs}" if found.epochs else f"epoch {found.epoch}")
    if found.values:
        words.append(f"{sparkline(found.values, _SPARK)} {found.values[-1]:.3g}")
    if found.seconds_left is not None:
        words.append(f"{_short(found.seconds_left)} left")
    if found.images_per_second is not None:
        words.append(f"{found.images_per_second:,.0f} img/s")
    return [*words, *([found.metric] if found.values else [])]


def _short(seconds: float) -> str:
    """Write a duration in the unit that matters."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 100 else f"{minutes / 60:.0f} h"


def job_line(row: JobRow) -> Line:
    """Return the line of a job."""
    state = str(row.state).lower()
    took = clock(row.seconds) if row.seconds is not None else ""
    told = row.message.partition("\n")[0] or row.reason or took
    parts = (
        (row.job_id[:_ID], Style(dim=True)),
        (f" {state:<9}", Style.parse(_COLOURS.get(row.state, ""))),
        (f" {row.stage!s:<5}", Style()),
        (f" {row.trial}", Style()),
        (f"  {told}" if told else "", Style(dim=True)),
    )
    return Line(parts=parts, jobs=(row.job_id,), running=row.state is State.RUNNING)


def trouble_line(one: Trouble) -> Line:
    """Return the line of something that went wrong."""
    phases = ", ".join(f"{number:,} of {phase}" for phase, number in Counter(row.phase for row in one.rows).items())
    parts = (
        (f"{len(one.rows):>6,} {str(one.state).lower():<9}", Style.parse(_COLOURS.get(one.state, ""))),
        (f" {one.rows[0].message.partition(chr(10))[0] or 'no message'}", Style()),
        (f"  ({phases})", Style(dim=True)),
    )
    return Line(parts=parts, jobs=tuple(row.job_id for row in one.rows))
