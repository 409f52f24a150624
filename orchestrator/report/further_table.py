"""The table of what else masks are measured by."""

from __future__ import annotations

from orchestrator.report.entries import Column, Entry, Row, Table, cell_entry, scale_of, series_of
from orchestrator.report.keys import Keys
from orchestrator.report.kinds import KINDS
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import percent


def further(report: Report, test_set: TestSet) -> Table | None:
    """Return arms, and numbers of labels where there are several, by further measures; None where there is none."""
    found = {(one.arm, one.size, one.measure): one for one in report.further if one.test_set == test_set.key}
    if not found:
        return None
    names = list(dict.fromkeys(measure for _, _, measure in found))
    scales = {
        name: scale_of([end for one in found.values() if one.measure == name for end in (one.low, one.high, one.estimate)], reference=None)
        for name in names
    }
    series, keys, several = series_of(test_set.arms), Keys.of(report.test_sets), len(test_set.sizes) > 1
    columns = [Column(title="Arm", kind="text"), *([Column(title="Labels", kind="text")] if several else [])]
    columns += [Column(title=KINDS[name].title, below=_unit(name), scale=scales[name]) for name in names]
    rows: list[Row] = []
    for arm in test_set.arms:
        for order, size in enumerate(test_set.sizes):
            cells = {name: found.get((arm.key, size.key, name)) for name in names}
            if any(cells.values()):
                entries = [cell_entry(one, scales[name], series[arm.key], key=keys.cell(one) if one else "") for name, one in cells.items()]
                first = [Entry(text=arm.title, series=series[arm.key], sort=arm.title)]
                rows.append(Row(entries=(*first, *([Entry(text=size.title, sort=order)] if several else []), *entries), floor=arm.floor))
    caption = f"The same runs by other measures, with {percent(report.confidence)} intervals for new replicates and new {test_set.cluster}."
    return Table(
        key=f"further-{test_set.key}", caption=caption, columns=tuple(columns), rows=tuple(rows), note="No difference is tested here."
    )


def _unit(name: str) -> str:
    return "" if KINDS[name].higher_is_better else "lower is better"
