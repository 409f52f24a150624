"""Entries of tables as values: what each says, how it sorts, and the little plot beside it. HTML and Markdown show the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Difference
from orchestrator.report.wording import METHOD_NAMES, STATUS_NAMES, estimand_words, number, plural, signed


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The axis of a column of little plots, in the unit of its numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]
    #: Where no difference, or no discrimination, is; None when that lies outside.
    reference: float | None

    @property
    def is_whole(self) -> bool:
        """Tell whether its ticks are written without decimals: whole numbers that are more than one apart, such as places."""
        return self.high - self.low >= 2 and all(tick == round(tick) for tick in self.ticks)

    def place(self, value: float) -> float:
        """Return where a value stands, 0 at the left end and 1 at the right, kept inside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One little plot: an estimate, its interval and the replicates it was made of."""

    scale: Scale
    value: float
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()
    #: A range that is no interval (what chance gives).
    band: tuple[float, float] | None = None
    hollow: bool = False
    series: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a table."""

    text: str
    below: str = ""
    sort: float | str | None = None
    #: Short warnings.
    marks: tuple[str, ...] = ()
    strip: Strip | None = None
    #: Which series of the figures an arm is; -1 for the floor.
    series: int | None = None
    title: str = ""
    mono: bool = False
    #: 1 for the best of its column or row, 2 for the second.
    rank: int | None = None
    #: Signs of the declared contrasts in which the difference from the baseline is shown.
    signs: tuple[str, ...] = ()
    #: What of `text` and then of `below` is a number of the report, with its name: what LaTeX tables carry for `report --check`.
    numbers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `kind` is text, number or plot."""

    title: str
    below: str = ""
    kind: str = "number"
    scale: Scale | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; those of the floor and of published values stand apart."""

    entries: tuple[Entry, ...]
    floor: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table with its caption."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    #: What the little plots show; for pages that have them.
    drawn: str = ""


def series_of(arms: Sequence[ArmInfo]) -> dict[str, int]:
    """Number the arms as figures and tables colour them; floor rows are -1."""
    playing = [arm.key for arm in arms if not arm.floor]
    return {**{arm.key: -1 for arm in arms if arm.floor}, **{key: index for index, key in enumerate(playing)}}


def scale_of(values: Iterable[float | None], *, reference: float | None, reach: float = 0.25) -> Scale:
    """Return an axis with round ends around some values; the reference is on it when it lies within `reach` of their span."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=reference or 0.0), max(known, default=reference or 0.0)
    span = max(high - low, 0.02)
    if reference is not None and low - reach * span < reference < high + reach * span:
        low, high = min(low, reference), max(high, reference)
    step = _step(high - low)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if high <= low:
        high = low + step
    ticks = tuple(round(low + index * step, 6) for index in range(round((high - low) / step) + 1))
    shown = ticks if len(ticks) <= 3 else (ticks[0], ticks[-1])
    if reference is not None and low <= reference <= high:
        # The reference is named first, and an end that would touch its name is not.
        apart = [tick for tick in shown if abs(tick - reference) > 0.22 * (high - low)]
        shown = tuple(sorted({*apart, reference}))
    return Scale(low=low, high=high, ticks=shown, reference=reference if reference is not None and low <= reference <= high else None)


def _step(span: float) -> float:
    rough = max(span, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough - 1e-12)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Write an interval's ends, or nothing."""
    if low is None or high is None:
        return ""
    return f"{signed(low)} to {signed(high)}" if sign else f"{number(low)}–{number(high)}"


def marks_of(status: Sequence[str], *, n_runs: int, n_planned: int, noun: str = "run") -> tuple[str, ...]:
    """Return what must stand beside a number, in a few words each."""
    found: list[str] = []
    for word in status:
        if word == Status.MISSING_RUNS:
            found.append(f"{n_runs} of {plural(n_planned, noun)}")
        elif not (word == Status.NOT_ESTIMABLE and n_runs == 0):
            found.append(STATUS_NAMES[word])
    return tuple(found)


def ends(low: float | None, high: float | None, key: str, *, sign: bool = False) -> tuple[tuple[str, str], ...]:
    """Return the ends of an interval as they are written, each with its name."""
    write = signed if sign else number
    return () if low is None or high is None else ((write(low), f"{key}.low"), (write(high), f"{key}.high"))


def cell_entry(
    cell: Cell | None, scale: Scale, series: int, *, key: str = "", rank: int | None = None, signs: tuple[str, ...] = ()
) -> Entry:
    """Return one arm's number with its interval and its marks. `key` is the name of the number."""
    if cell is None:
        return Entry(text="", title="not planned")
    marks = marks_of(cell.status, n_runs=cell.n_runs, n_planned=cell.n_planned)
    if cell.estimate is None:
        return Entry(text="–", marks=marks, title="no run is there")
    return Entry(
        text=number(cell.estimate),
        below=interval(cell.low, cell.high),
        sort=cell.estimate,
        marks=marks,
        strip=Strip(
            scale=scale,
            value=cell.estimate,
            low=cell.low,
            high=cell.high,
            points=tuple(point.value for point in cell.points),
            hollow=Status.ONE_RUN in cell.status,
            series=series,
        ),
        title=f"{estimand_words(cell.estimand)}; {METHOD_NAMES.get(cell.method, cell.method)}; {plural(cell.n_runs, 'run')}",
        rank=rank,
        signs=signs,
        numbers=((number(cell.estimate), key), *ends(cell.low, cell.high, key)),
    )


def difference_entry(one: Difference, scale: Scale, series: int | None, *, key: str = "", signs: tuple[str, ...] = ()) -> Entry:
    """Return one difference with its interval, its replicates and its marks. `key` is the name of the number."""
    words = [word for word in one.status if word != Status.MISSING_RUNS]
    marks = tuple(STATUS_NAMES[word] for word in words) + (("runs missing",) if Status.MISSING_RUNS in one.status else ())
    if one.estimate is None:
        return Entry(text="–", marks=marks)
    return Entry(
        text=signed(one.estimate),
        below=interval(one.low, one.high, sign=True),
        sort=one.estimate,
        marks=marks,
        strip=Strip(
            scale=scale,
            value=one.estimate,
            low=one.low,
            high=one.high,
            points=tuple(point.value for point in one.points),
            hollow=Status.ONE_RUN in one.status,
            series=series,
        ),
        title=f"{estimand_words(one.estimand)}; {METHOD_NAMES.get(one.method, one.method)}",
        signs=signs,
        numbers=((signed(one.estimate), key), *ends(one.low, one.high, key, sign=True)),
    )
