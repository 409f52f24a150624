"""Tables by finding, for one number of labels each."""

from __future__ import annotations

import math
from collections.abc import Iterable

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
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Difference, LabelInfo, Report, TestSet
from orchestrator.report.wording import STATUS_NAMES, apart, p_value, percent, plural


def findings(report: Report, test_set: TestSet, size: str) -> Table:
    """Return areas by finding for one number of labels."""
    cells = {(one.arm, one.label): one for one in report.label_cells if (one.test_set, one.size) == (test_set.key, size)}
    arms = [arm for arm in test_set.arms if any(key == arm.key for key, _ in cells)]
    series = series_of(test_set.arms)
    scale = scale_of([bound for one in cells.values() for bound in (one.low, one.high, one.estimate)], reference=0.5)
    columns = (
        Column(title="Finding", kind="text"),
        Column(title="Positive", below="cases (patients)"),
        *(_arm_column(arm, [one for one in cells.values() if one.arm == arm.key], scale) for arm in arms),
    )
    rows = [
        Row(
            entries=(
                _finding_entry(label),
                _positive_entry(label),
                *(_plain_cell(cells.get((arm.key, label.name)), scale, series[arm.key]) for arm in arms),
            )
        )
        for label in test_set.labels
    ]
    return Table(
        key=f"findings-{test_set.key}-{size}", caption=f"AUROC by finding, {_title_of(test_set, size)}.", columns=columns, rows=tuple(rows)
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


def _plain_cell(cell: Cell | None, scale: Scale, series: int) -> Entry:
    """Return a cell without the marks that its row or its column already carries."""
    entry = cell_entry(cell, scale, series)
    carried = marks_of((Status.FEW_POSITIVES, Status.MISSING_RUNS), n_runs=cell.n_runs, n_planned=cell.n_planned) if cell else ()
    kept = tuple(mark for mark in entry.marks if mark not in carried)
    return Entry(text=entry.text, below=entry.below, sort=entry.sort, marks=kept, strip=entry.strip, title=entry.title)


def finding_differences(report: Report, test_set: TestSet, size: str) -> Table | None:
    """Return differences by finding for one number of labels; None when no contrast was declared."""
    found = [one for one in report.label_differences if (one.test_set, one.size) == (test_set.key, size)]
    if not found:
        return None
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    pairs = list(dict.fromkeys((one.arm, one.baseline) for one in found))
    scale = scale_of([bound for one in found for bound in (one.low, one.high, one.estimate)], reference=0.0, reach=math.inf)
    by_place = {(one.arm, one.baseline, one.label): one for one in found}
    rows = [
        Row(
            entries=(
                Entry(text=label.title, sort=label.title),
                *(
                    _exploratory(by_place[arm, base, label.name], scale, series[arm])
                    for arm, base in pairs
                    if (arm, base, label.name) in by_place
                ),
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
    return Table(key=f"finding-differences-{test_set.key}-{size}", caption=caption, columns=columns, rows=tuple(rows))


def _exploratory(one: Difference, scale: Scale, series: int) -> Entry:
    entry = difference_entry(one, scale, series)
    below = "; ".join(part for part in (entry.below, f"q {p_value(one.p_adjusted)}" if one.p_adjusted is not None else "") if part)
    strip = entry.strip and Strip(scale=scale, value=entry.strip.value, low=entry.strip.low, high=entry.strip.high, series=series)
    return Entry(text=entry.text, below=below, sort=entry.sort, strip=strip, title=entry.title)
