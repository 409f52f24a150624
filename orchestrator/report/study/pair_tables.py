"""All pairs of arms on a page, a view for each number of labels."""

from __future__ import annotations

import math

from orchestrator.report.blocks import Block, Panel
from orchestrator.report.entries import Column, Entry, Row, Strip, Table, ends, interval, scale_of, series_of
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.values import PairDifference
from orchestrator.report.values import Report, SizeInfo, TestSet
from orchestrator.report.wording import p_value, percent, signed


def pair_block(report: Report, test_set: TestSet) -> Block | None:
    """Return all pairs of one test set; None with fewer than three arms that have replicates."""
    found = [one for one in report.study.pairs if one.test_set == test_set.key]
    if not found:
        return None
    shown = [size for size in test_set.sizes if any(one.size == size.key for one in found)]
    panels = tuple(Panel(title=size.title, tables=(_table(report, test_set, size, found),)) for size in shown)
    return Block(key="pairs", title="All pairs of arms", panels=panels)


def _table(report: Report, test_set: TestSet, size: SizeInfo, found: list[PairDifference]) -> Table:
    titles, series, keys = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms), StudyKeys.of(report)
    own = [one for one in found if one.size == size.key]
    scale = scale_of([value for one in own for value in (one.low, one.high, one.estimate)], reference=0.0, reach=math.inf)
    rows = [
        Row(
            entries=(
                Entry(text=titles[one.arm], series=series[one.arm]),
                Entry(text=titles[one.baseline], series=series[one.baseline]),
                Entry(
                    text=signed(one.estimate),
                    below=interval(one.low, one.high, sign=True),
                    sort=one.estimate,
                    strip=Strip(scale=scale, value=one.estimate or 0.0, low=one.low, high=one.high, series=series[one.arm]),
                    numbers=((signed(one.estimate), keys.pair(one)), *ends(one.low, one.high, keys.pair(one), sign=True)),
                ),
                _p(one, keys.pair(one)),
            )
        )
        for one in own
    ]
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="Minus", kind="text"),
        Column(title="Difference", below=f"{percent(report.confidence)} interval of its own", scale=scale),
        Column(title="p", below="max-t"),
    )
    caption = (
        f"Every two arms in {test_set.measure_title}, {size.title}; p values are adjusted by max-t over all {own[0].family} pairs of this "
        "test set, so that the best arm may be read off."
    )
    return Table(key=f"pairs-{test_set.key}-{size.key}", caption=caption, columns=columns, rows=tuple(rows))


def _p(one: PairDifference, key: str) -> Entry:
    adjusted, raw = p_value(one.p_adjusted), p_value(one.p)
    return Entry(text=adjusted, below=f"raw {raw}", sort=one.p_adjusted, numbers=((adjusted, f"{key}.p_adjusted"), (raw, f"{key}.p")))
