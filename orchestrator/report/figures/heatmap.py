"""Differences by finding as colours, with a mark only where the adjusted p passes."""

from __future__ import annotations

from orchestrator.report import marks
from orchestrator.report.figures.drawing import INK, MUTED, RULE, SERIES, Figure, file_slug
from orchestrator.report.figures.svg import Sheet
from orchestrator.report.values import Difference, Report, TestSet
from orchestrator.report.wording import alpha, apart, signed

#: Columns whose numbers can still be read.
MOST_PAIRS = 16
#: Colours of higher and lower; the strongest tint still lets ink be read.
HIGHER, LOWER, STRONGEST = SERIES[0], SERIES[1], 0.62


def heatmap(report: Report, test_set: TestSet, size: str) -> Figure | None:
    """Draw differences by finding and of the headline measure for one number of labels; None where nothing was declared."""
    found = {
        (one.arm, one.baseline, one.label): one
        for one in (*report.differences, *report.label_differences)
        if (one.test_set, one.size) == (test_set.key, size)
    }
    pairs = list(dict.fromkeys((arm, base) for arm, base, _ in found))
    rows = [(None, test_set.measure_title[:1].upper() + test_set.measure_title[1:])]
    rows += [(label.name, label.title) for label in test_set.labels]
    if not pairs or len(rows) < 3 or all(one.estimate is None for one in found.values()):
        return None
    titles = {arm.key: arm.title for arm in test_set.arms}
    heads = [(titles[arm], f"minus {apart(titles[arm], titles[base])[1]}") for arm, base in pairs[:MOST_PAIRS]]
    title = next(one.title for one in test_set.sizes if one.key == size)
    left = f" The first {len(heads)} of {len(pairs)} comparisons; the others stand in the table." if len(heads) < len(pairs) else ""
    grid = [[found.get((*pair, label)) for pair in pairs[:MOST_PAIRS]] for label, _ in rows]
    names = [name for _, name in rows]
    return Figure(
        key=f"heatmap-{file_slug(test_set.key)}-{file_slug(size)}",
        alt=_alt(grid, names, heads, title, report.confidence),
        caption=f"Differences by finding, {title}: blue is higher than the baseline, orange lower, stronger is more. A corner is marked "
        f"where the adjusted p is below {alpha(report.confidence):g}: Holm in the first row, Benjamini–Hochberg over the findings of a "
        f"column below it, which are exploratory.{left}",
        wide=_draw(grid, names, heads, 1040.0, report.confidence),
        narrow=_draw(grid, names, heads, 400.0, report.confidence),
    )


def _alt(grid: list[list[Difference | None]], names: list[str], heads: list[tuple[str, str]], title: str, confidence: float) -> str:
    told = []
    for column, (arm, base) in enumerate(heads):
        passed = [
            f"{name} {signed(one.estimate)}"
            for name, row in zip(names, grid, strict=True)
            if (one := row[column]) is not None and marks.passes(one, confidence)
        ]
        told.append(f"{arm} {base}: {', '.join(passed) if passed else 'none'}")
    return f"Differences by finding, {title}; those whose adjusted p passes. {'; '.join(told)}."


def _draw(grid: list[list[Difference | None]], names: list[str], heads: list[tuple[str, str]], width: float, confidence: float) -> str:
    wide = width > 600
    left = 196.0 if wide else 112.0
    column = min(150.0, max(46.0, (width - left) / len(heads)))
    sheet = Sheet(width=max(width, left + column * len(heads)), height=0, size=12 if wide or len(heads) < 5 else 11)
    top = _heads(sheet, heads, left, column)
    height = 26.0
    most = max((abs(one.estimate) for row in grid for one in row if one is not None and one.estimate is not None), default=1.0) or 1.0
    for index, (name, row) in enumerate(zip(names, grid, strict=True)):
        y = top + index * height + (6 if index else 0)
        sheet.text(0, y + 17, sheet.fit(name, left - 8), bold=index == 0)
        for place, one in enumerate(row):
            x = left + place * column
            if one is None or one.estimate is None:
                sheet.text(x + column / 2, y + 17, "–", color=MUTED, anchor="middle")
                continue
            color = HIGHER if one.estimate >= 0 else LOWER
            sheet.box(x + 1, y + 1, column - 2, height - 2, color, opacity=STRONGEST * abs(one.estimate) / most)
            sheet.text(x + column / 2, y + 17, signed(one.estimate, 3 if column > 52 else 2), anchor="middle")
            if marks.passes(one, confidence):
                sheet.corner(x + column - 1, y + 1)
    sheet.height = top + height * len(names) + 10
    return sheet.svg()


def _heads(sheet: Sheet, heads: list[tuple[str, str]], left: float, column: float) -> float:
    """Write what each column is, upright where there is room and turned where there is not; return where the cells begin."""
    if column >= 84:
        broken = [[*sheet.wrap(arm, column - 8), *sheet.wrap(base, column - 8, 2)] for arm, base in heads]
        tall = max(map(len, broken))
        for index, ((arm, _), lines) in enumerate(zip(heads, broken, strict=True)):
            own = len(sheet.wrap(arm, column - 8))
            for row, words in enumerate(lines):
                y = 14 + 15 * (tall - len(lines) + row)
                sheet.text(left + column * (index + 0.5), y, words, anchor="middle", small=row >= own, color=INK if row < own else MUTED)
        return 14 + 15 * tall
    room = 130.0
    for index, (arm, base) in enumerate(heads):
        x = left + column * (index + 0.5) + 4
        sheet.text(x, room, sheet.fit(f"{arm} {base}", 165), turn=-50, small=True)
    sheet.line(left, room + 6, left + column * len(heads), room + 6, RULE)
    sheet.width = max(sheet.width, left + column * len(heads) + 70)
    return room + 10
