"""Tables by finding, for one number of labels each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from orchestrator.report import marks
from orchestrator.report.entries import (
    Column,
    Entry,
    Row,
    Scale,
    Strip,
    Table,
    cell_entry,
    difference_entry,
    marks_of,
    scale_of,
    series_of,
)
from orchestrator.report.keys import Keys
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Difference, LabelInfo, Report, TestSet
from orchestrator.report.wording import STATUS_NAMES, apart, p_value, percent, plural


def findings(report: Report, test_set: TestSet, size: str) -> Table:
    """Return areas by finding for one number of labels."""
    cells = {(one.arm, one.label): one for one in report.label_cells if (one.test_set, one.size) == (test_set.key, size)}
    arms = [arm for arm in test_set.arms if any(key == arm.key for key, _ in cells)]
    found = [one for one in report.label_differences if (one.test_set, one.size) == (test_set.key, size)]
    series, keys = series_of(test_set.arms), Keys.of(report.test_sets)
    scale = scale_of([bound for one in cells.values() for bound in (one.low, one.high, one.estimate)], reference=test_set.label_reference)
    signs = marks.signed_places(found, marks.signs_of(found), report.confidence)
    title = test_set.label_measure_title

    def row_of(label: LabelInfo) -> tuple[Entry, ...]:
        row = [cells.get((arm.key, label.name)) for arm in arms]
        return tuple(
            _plain_cell(
                cell,
                scale,
                series[arm.key],
                key=keys.cell(cell) if cell else "",
                rank=rank,
                signs=signs.get((arm.key, size, label.name), ()),
            )
            for arm, cell, rank in zip(arms, row, marks.ranks(row, higher_is_better=test_set.label_higher_is_better), strict=True)
        )

    columns = (
        Column(title="Finding", kind="text"),
        Column(title="Positive", below="cases (patients)"),
        *(_arm_column(arm, [one for one in cells.values() if one.arm == arm.key], scale) for arm in arms),
    )
    rows = [Row(entries=(_finding_entry(label), _positive_entry(label), *row_of(label))) for label in test_set.labels]
    return Table(
        key=f"findings-{test_set.key}-{size}",
        caption=f"{title[:1].upper()}{title[1:]} by finding, {_title_of(test_set, size)}.",
        columns=columns,
        rows=tuple(rows),
        note=marks.legend(list(cells.values()), found, test_set, confidence=report.confidence, column="row"),
    )


def _arm_column(arm: ArmInfo, cells: Iterable[Cell], scale: Scale) -> Column:
    """Return an arm's column, which says once for all findings that runs are missing."""
    gaps = {f"{one.n_planned - len(one.missing)} of {plural(one.n_planned, 'run')}" for one in cells if one.missing}
    return Column(title=arm.title, below="; ".join([*(["floor"] if arm.floor else []), *sorted(gaps)]), scale=scale)


def _title_of(test_set: TestSet, size: str) -> str:
    return next(one.title for one in test_set.sizes if one.key == size)


def _finding_entry(label: LabelInfo) -> Entry:
    below = [] if label.in_measure else ["not in the headline measure"]
    if label.valid_share < 0.9995 and Status.NOT_ESTIMABLE not in label.status:
        below.append(f"both classes in {percent(round(label.valid_share, 3))} of resamples")
    marks = tuple(STATUS_NAMES[word] for word in label.status)
    few = "fewer than 10 cases or patients of a class: intervals rest on little" if Status.FEW_POSITIVES in label.status else ""
    return Entry(text=label.title, below="; ".join(below), marks=marks, sort=label.title, title=few)


def _positive_entry(label: LabelInfo) -> Entry:
    total = label.n_positive + label.n_negative
    return Entry(
        text=f"{label.n_positive:,} of {total:,}",
        below=f"{label.n_positive_patients:,} patients",
        sort=label.n_positive,
    )


def _plain_cell(cell: Cell | None, scale: Scale, series: int, *, key: str, rank: int | None, signs: tuple[str, ...]) -> Entry:
    """Return a cell without the marks that its row or its column already carries."""
    entry = cell_entry(cell, scale, series, key=key, rank=rank, signs=signs)
    carried = marks_of((Status.FEW_POSITIVES, Status.MISSING_RUNS), n_runs=cell.n_runs, n_planned=cell.n_planned) if cell else ()
    kept = tuple(mark for mark in entry.marks if mark not in carried)
    return replace(entry, marks=kept)


def finding_differences(report: Report, test_set: TestSet, size: str) -> Table | None:
    """Return differences by finding for one number of labels; None when no contrast was declared."""
    found = [one for one in report.label_differences if (one.test_set, one.size) == (test_set.key, size)]
    if not found:
        return None
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    keys, signs = Keys.of(report.test_sets), marks.signs_of(found)
    pairs = list(dict.fromkeys((one.arm, one.baseline) for one in found))
    scale = scale_of([bound for one in found for bound in (one.low, one.high, one.estimate)], reference=0.0, reach=math.inf)
    by_place = {(one.arm, one.baseline, one.label): one for one in found}

    def entry(one: Difference) -> Entry:
        sign = (signs[one.contrast],) if marks.passes(one, report.confidence) else ()
        return _exploratory(one, scale, series[one.arm], key=keys.difference(one), signs=sign)

    rows = [
        Row(
            entries=(
                Entry(text=label.title, sort=label.title),
                *(entry(by_place[arm, base, label.name]) for arm, base in pairs if (arm, base, label.name) in by_place),
            )
        )
        for label in test_set.labels
    ]
    columns = (
        Column(title="Finding", kind="text"),
        *(Column(title=titles[arm], below=f"minus {apart(titles[arm], titles[base])[1]}", scale=scale) for arm, base in pairs),
    )
    adjusted = "exploratory: q is adjusted by Benjamini–Hochberg over the findings of a column."
    caption = f"Differences by finding, {_title_of(test_set, size)}; {adjusted}"
    note = marks.legend([], found, test_set, confidence=report.confidence, column="row")
    return Table(key=f"finding-differences-{test_set.key}-{size}", caption=caption, columns=columns, rows=tuple(rows), note=note)


def _exploratory(one: Difference, scale: Scale, series: int, *, key: str, signs: tuple[str, ...]) -> Entry:
    entry = difference_entry(one, scale, series, key=key, signs=signs)
    if one.p_adjusted is None:
        return replace(entry, marks=())
    q = p_value(one.p_adjusted)
    below = "; ".join(part for part in (entry.below, f"q {q}") if part)
    strip = entry.strip and Strip(scale=scale, value=entry.strip.value, low=entry.strip.low, high=entry.strip.high, series=series)
    return replace(entry, below=below, strip=strip, marks=(), numbers=(*entry.numbers, (q, f"{key}.p_adjusted")))
