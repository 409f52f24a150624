"""Small multiples: a panel a finding on a unit square, a line an arm; what a page sets side by side and a file holds in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.report.figures.drawing import MUTED, RULE, Figure, Multiple, color_of, dash_of
from orchestrator.report.figures.svg import LETTER, Sheet

#: Side of the plotted square in pixels: a step of a fiftieth is three.
SIDE = 150.0
WIDTH, HEIGHT = 206.0, 226.0
_LEFT, _TOP = 38.0, 38.0
_TICKS = (0.0, 0.5, 1.0)
#: Panels in a row of a file.
ACROSS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One arm in one panel; places are in the unit square."""

    series: int
    points: tuple[tuple[float, float], ...]
    #: (place, whether it is of one run), drawn in the shape of the arm.
    marks: tuple[tuple[tuple[float, float], bool], ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    #: Upright intervals: (x, low, high).
    bars: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One finding: what it is called, how much of it there is, its lines, and where chance or the ideal is."""

    title: str
    below: str
    alt: str
    lines: tuple[Line, ...]
    reference: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What both axes of all panels are called."""

    across: str
    up: str


def figure(key: str, caption: str, alt: str, axes: Axes, squares: Sequence[Square], arms: Sequence[tuple[str, int]]) -> Figure:
    """Draw squares as one figure. `arms` are (name, series)."""
    return Figure(
        key=key,
        alt=f"{alt} {'; '.join(one.alt for one in squares)}.",
        caption=caption,
        wide=_whole(axes, squares, arms),
        narrow="",
        multiples=tuple(Multiple(title=one.title, alt=f"{alt} {one.alt}.", svg=_alone(axes, one)) for one in squares),
        legend=tuple((_sample(series), name) for name, series in arms),
    )


def _alone(axes: Axes, square: Square) -> str:
    sheet = Sheet(width=WIDTH, height=HEIGHT)
    _draw(sheet, axes, square, 0.0, 0.0)
    return sheet.svg()


def _whole(axes: Axes, squares: Sequence[Square], arms: Sequence[tuple[str, int]]) -> str:
    across = min(ACROSS, max(len(squares), 2))
    sheet = Sheet(width=across * WIDTH, height=0)
    x, y = 0.0, 12.0
    for name, series in arms:
        shown = sheet.fit(name, sheet.width - 50)
        room = 58 + len(shown) * LETTER * sheet.size
        if x and x + room > sheet.width:
            x, y = 0.0, y + 20
        _line_and_mark(sheet, series, x, y)
        sheet.text(x + 40, y + 4, shown)
        x += room
    top = y + 18
    for index, one in enumerate(squares):
        _draw(sheet, axes, one, WIDTH * (index % across), top + HEIGHT * (index // across))
    sheet.height = top + HEIGHT * -(-len(squares) // across)
    return sheet.svg()


def _sample(series: int) -> str:
    sheet = Sheet(width=34, height=14)
    _line_and_mark(sheet, series, 0.0, 7.0)
    return sheet.svg()


def _line_and_mark(sheet: Sheet, series: int, x: float, y: float) -> None:
    sheet.line(x, y, x + 34, y, color_of(series), width=1.8, dash=dash_of(series))
    sheet.marker(x + 17, y, color_of(series), series, radius=4.0)


def _draw(sheet: Sheet, axes: Axes, square: Square, left: float, top: float) -> None:
    x0, y0 = left + _LEFT, top + _TOP

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return x0 + SIDE * point[0], y0 + SIDE * (1 - point[1])

    sheet.text(left, top + 12, sheet.fit(square.title, WIDTH - 8), bold=True)
    sheet.text(left, top + 27, square.below, color=MUTED, small=True)
    rules = [(*place((tick, 0.0)), *place((tick, 1.0))) for tick in _TICKS] + [
        (*place((0.0, tick)), *place((1.0, tick))) for tick in _TICKS
    ]
    sheet.lines(rules, RULE)
    for tick in _TICKS:
        x, y = place((tick, tick))
        sheet.text(x, y0 + SIDE + 14, f"{tick:g}", color=MUTED, anchor="middle", small=True)
        sheet.text(x0 - 5, y + 4, f"{tick:g}", color=MUTED, anchor="end", small=True)
    sheet.text(x0 + SIDE / 2, y0 + SIDE + 29, axes.across, color=MUTED, anchor="middle", small=True)
    sheet.text(left + 10, y0 + SIDE / 2, axes.up, color=MUTED, anchor="middle", small=True, turn=-90)
    start, end = (place(point) for point in square.reference)
    sheet.line(*start, *end, MUTED, dash="1.5 2")
    for one in square.lines:
        color = color_of(one.series)
        if one.bars:
            sheet.lines([(*place((x, low)), *place((x, high))) for x, low, high in one.bars], color, width=1.2, opacity=0.5)
        sheet.curve([place(point) for point in one.points], color, dash=dash_of(one.series))
        if one.dots:
            sheet.dots([place(point) for point in one.dots], color, radius=2.4, opacity=1.0)
    # Marks stand above all lines.
    for one in square.lines:
        for at, hollow in one.marks:
            sheet.marker(*place(at), color_of(one.series), one.series, hollow=hollow, radius=4.0)
