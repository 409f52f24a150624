"""Areas by finding and the headline measure, side by side for every arm: a forest plot."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.report.entries import Scale, scale_of, series_of
from orchestrator.report.figures.drawing import MUTED, Figure, color_of, file_slug
from orchestrator.report.figures.svg import Sheet, axis, legend
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Report, TestSet
from orchestrator.report.wording import number, percent

#: Arms that can still be told from each other in one row.
MOST_ARMS = 8


def forest(report: Report, test_set: TestSet, size: str) -> Figure | None:
    """Draw every finding's area and the headline measure with their intervals, for one number of labels; None without findings."""
    cells = {
        (one.arm, one.label): one
        for one in (*report.label_cells, *report.cells)
        if (one.test_set, one.size) == (test_set.key, size) and one.estimate is not None
    }
    arms = [arm for arm in test_set.arms if any(key == arm.key for key, _ in cells)]
    shown = arms[:MOST_ARMS]
    rows = [(label.name, label.title) for label in test_set.labels if any((arm.key, label.name) in cells for arm in shown)]
    if len(rows) < 2:
        return None
    title = next(one.title for one in test_set.sizes if one.key == size)
    named = test_set.measure_title[:1].upper() + test_set.measure_title[1:]
    left = f" The first {len(shown)} of {len(arms)} arms; the others stand in the table." if len(shown) < len(arms) else ""
    drawn = [(None, named), *rows]
    return Figure(
        key=f"forest-{file_slug(test_set.key)}-{file_slug(size)}",
        alt=_alt(cells, shown, drawn, title),
        caption=f"AUROC by finding, and {test_set.measure_title}, {title}: estimates with their {percent(report.confidence)} intervals. "
        f"A hollow mark with a broken line is one run.{left}",
        wide=_draw(cells, shown, drawn, series_of(test_set.arms), 1040.0),
        narrow=_draw(cells, shown, drawn, series_of(test_set.arms), 400.0),
    )


def _alt(cells: dict[tuple[str, str | None], Cell], arms: list[ArmInfo], rows: list[tuple[str | None, str]], title: str) -> str:
    told = []
    for label, name in rows:
        found = [f"{arm.title} {number(cells[arm.key, label].estimate)}" for arm in arms if (arm.key, label) in cells]
        told.append(f"{name}: {', '.join(found)}")
    return f"AUROC by finding, {title}. {'; '.join(told)}."


def _draw(
    cells: dict[tuple[str, str | None], Cell], arms: list[ArmInfo], rows: list[tuple[str | None, str]], series: dict[str, int], width: float
) -> str:
    wanted = [cells[arm.key, label] for arm in arms for label, _ in rows if (arm.key, label) in cells]
    scale = scale_of([bound for one in wanted for bound in (one.low, one.high, one.estimate)], reference=0.5)
    left, right, step = (196.0 if width > 600 else 118.0), 22.0, 10.0
    row_height = max(28.0, step * len(arms) + 12)
    sheet = Sheet(width=width, height=0)
    top = legend(sheet, [(arm.title, color_of(series[arm.key]), series[arm.key]) for arm in arms], left=4, top=12) + 2
    bottom = top + row_height * len(rows)

    def place(value: float) -> float:
        return left + scale.place(value) * (width - left - right)

    axis(sheet, [(place(tick), f"{tick:.2f}") for tick in ticks_of(scale)], top=top, bottom=bottom)
    if scale.reference is not None:
        sheet.line(place(0.5), top, place(0.5), bottom, MUTED, dash="1.5 2")
    for index, (label, name) in enumerate(rows):
        middle = top + row_height * (index + 0.5)
        sheet.text(0, middle + 4, sheet.fit(name, left - 8), bold=label is None)
        if index:
            sheet.line(0, top + row_height * index, width, top + row_height * index)
        for place_of, arm in enumerate(arms):
            if (arm.key, label) in cells:
                y = middle + step * (place_of - (len(arms) - 1) / 2)
                _mark(sheet, cells[arm.key, label], y, place, series[arm.key])
    sheet.height = bottom + 22
    return sheet.svg()


def _mark(sheet: Sheet, cell: Cell, y: float, place: Callable[[float], float], series: int) -> None:
    hollow, color = Status.ONE_RUN in cell.status, color_of(series)
    if cell.low is not None and cell.high is not None:
        sheet.line(place(cell.low), y, place(cell.high), y, color, width=1.8, dash="3 2" if hollow else "")
    sheet.marker(place(cell.estimate or 0.0), y, color, series, hollow=hollow)


def ticks_of(scale: Scale) -> list[float]:
    """Return round numbers on an axis, six at most."""
    count = 5
    step = (scale.high - scale.low) / count
    for nice in (0.02, 0.05, 0.1, 0.2, 0.25, 0.5):
        if nice >= step - 1e-9:
            step = nice
            break
    first = -(-scale.low // step) * step
    return [round(first + index * step, 6) for index in range(int((scale.high - first) / step + 1e-6) + 1)]
