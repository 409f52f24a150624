"""Replicates of two arms side by side, and their difference with its interval on an axis of its own (Gardner & Altman 1986)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.report.entries import scale_of, series_of
from orchestrator.report.figures.curves import thinned
from orchestrator.report.figures.drawing import INK, MUTED, RULE, Figure, color_of, file_slug
from orchestrator.report.figures.forest import ticks_of
from orchestrator.report.figures.svg import Sheet
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import Cell, Difference, Report, TestSet
from orchestrator.report.wording import apart, percent, signed

#: Comparisons that are drawn; all of them stand in the table.
MOST_PAIRS = 12
#: Lines between matched replicates in one panel.
MOST_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    difference: Difference
    arm: Cell
    base: Cell
    matched: tuple[tuple[float, float], ...]


def pairs(report: Report, test_set: TestSet) -> Iterator[tuple[str, Figure]]:
    """Yield (comparison, figure), a panel for each number of labels; comparisons of one run a side have nothing to draw."""
    cells = {(one.arm, one.size): one for one in report.cells if one.test_set == test_set.key}
    titles, sizes = {arm.key: arm.title for arm in test_set.arms}, {size.key: size.title for size in test_set.sizes}
    grouped: dict[tuple[str, str], list[_Panel]] = {}
    for one in report.differences:
        if one.test_set == test_set.key and one.estimate is not None and Status.ONE_RUN not in one.status:
            arm, base = cells[one.arm, one.size], cells[one.baseline, one.size]
            panel = _Panel(title=sizes[one.size], difference=one, arm=arm, base=base, matched=_matched(one, arm, base))
            grouped.setdefault((one.arm, one.baseline), []).append(panel)
    series = series_of(test_set.arms)
    for arm, base in list(grouped)[:MOST_PAIRS]:
        panels, names = grouped[arm, base], (titles[arm], titles[base])
        own, other, _ = apart(*names)
        yield (
            f"{names[0]} minus {other}",
            Figure(
                key=f"pairs-{file_slug(test_set.key)}-{file_slug(names[0])}-{file_slug(names[1])}",
                alt=_alt(panels, names, test_set),
                caption=f"{names[0]} against {names[1]}: {test_set.measure_title}, a dot a replicate, joined where both arms saw the same "
                f"labelled patients. At the right of each panel the difference with its {percent(report.confidence)} interval, on an axis "
                "whose zero is the mean of the baseline.",
                wide=_draw(panels, (own, other), (series[arm], series[base]), 1040.0),
                narrow=_draw(panels, (own, other), (series[arm], series[base]), 400.0),
            ),
        )


def _matched(one: Difference, arm: Cell, base: Cell) -> tuple[tuple[float, float], ...]:
    """Return (baseline, arm) of each replicate that has a difference of its own."""
    sides = [{job: point.value for point in cell.points for job in point.jobs} for cell in (base, arm)]
    found: list[tuple[float, float]] = []
    for point in one.points:
        values = [next((side[job] for job in point.jobs if job in side), None) for side in sides]
        if values[0] is not None and values[1] is not None:
            found.append((values[0], values[1]))
    return tuple(found)


def _alt(panels: list[_Panel], names: tuple[str, str], test_set: TestSet) -> str:
    told = [
        f"{panel.title}: {signed(panel.difference.estimate)}"
        + (f" ({signed(panel.difference.low)} to {signed(panel.difference.high)})" if panel.difference.low is not None else "")
        for panel in panels
    ]
    return f"{names[0]} against {names[1]}, differences in {test_set.measure_title}. {'; '.join(told)}."


def _draw(panels: list[_Panel], names: tuple[str, str], series: tuple[int, int], width: float) -> str:
    across = min(len(panels), 3 if width > 600 else 1)
    own = min(width / across, 400.0)
    tall = 236.0
    sheet = Sheet(width=max(width, own * across), height=tall * -(-len(panels) // across))
    for index, panel in enumerate(panels):
        _panel(sheet, panel, names, series, left=own * (index % across), top=tall * (index // across), width=own - 14)
    return sheet.svg()


def _panel(sheet: Sheet, panel: _Panel, names: tuple[str, str], series: tuple[int, int], *, left: float, top: float, width: float) -> None:
    one, zero = panel.difference, panel.base.estimate or 0.0
    dots = [[point.value for point in cell.points] for cell in (panel.base, panel.arm)]
    ends = [zero + end for end in (one.low, one.high, one.estimate) if end is not None]
    scale = scale_of([*dots[0], *dots[1], *ends, zero], reference=zero, reach=0.0)
    high, low = top + 30, top + 196
    columns = [left + 44 + share * (width - 88) for share in (0.17, 0.5, 0.86)]

    def place(value: float) -> float:
        return low - scale.place(value) * (low - high)

    sheet.text(left + 4, top + 14, panel.title, bold=True)
    for tick in ticks_of(scale):
        sheet.line(left + 40, place(tick), columns[1] + 24, place(tick), RULE)
        sheet.text(left + 36, place(tick) + 4, f"{tick:.2f}", color=MUTED, anchor="end", small=True)
    colors = [color_of(series[1]), color_of(series[0])]
    joined = panel.matched[:MOST_LINES]
    sheet.lines([(columns[0], place(a), columns[1], place(b)) for a, b in joined], MUTED, opacity=0.5)
    for x, values, color, kind, cell in zip(columns[:2], dots, colors, (series[1], series[0]), (panel.base, panel.arm), strict=True):
        sheet.dots([(x, place(value)) for value in thinned(values)], color, radius=2.6, opacity=0.8)
        if cell.estimate is not None:
            sheet.marker(x + (-13 if x == columns[0] else 13), place(cell.estimate), color, kind)
    _difference(sheet, panel, place, zero, columns[2], left + width, colors[1], series[0])
    for x, name, room in zip(columns, (names[1], names[0], "difference"), (118.0, 118.0, 90.0), strict=True):
        for row, words in enumerate(sheet.wrap(name, room, 2)):
            sheet.text(x, low + 17 + 13 * row, words, anchor="middle", small=True)


def _difference(
    sheet: Sheet, panel: _Panel, place: Callable[[float], float], zero: float, x: float, right: float, color: str, series: int
) -> None:
    one = panel.difference
    sheet.line(x - 34, place(zero), right - 34, place(zero), MUTED, dash="1.5 2")
    sheet.text(right - 30, place(zero) + 4, "0", color=MUTED, small=True)
    if one.low is not None and one.high is not None:
        sheet.line(x, place(zero + one.low), x, place(zero + one.high), color, width=2)
    sheet.marker(x, place(zero + (one.estimate or 0.0)), color, series, radius=4.8)
    sheet.text(x + 9, place(zero + (one.estimate or 0.0)) + 4, signed(one.estimate), color=INK, bold=True)
