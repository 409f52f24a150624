"""Lone runs with the spread that they borrow, on a page."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Table, ends, interval, series_of
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.values import Borrowed
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import apart, number, percent, plural, replicate_noun, signed


def borrowed_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the borrowed intervals of one test set; None when no lone run has a size to borrow from."""
    found = [one for one in report.study.borrowed if one.test_set == test_set.key]
    if not found:
        return None
    said = (
        "One run is a model and not a method: its own interval is for this model and new patients. The wider one holds new draws too, if "
        "draws spread no more with more labels than with the fewer from which the spread is borrowed. Nothing is tested with it; more runs "
        "replace it."
    )
    return Block(key="borrowed", title="Lone runs with borrowed spread", sentences=(said,), tables=(_table(report, test_set, found),))


def _table(report: Report, test_set: TestSet, found: list[Borrowed]) -> Table:
    titles, series, keys = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms), StudyKeys.of(report)
    sizes = {size.key: size.title for size in test_set.sizes}
    level = percent(report.confidence)
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="One run", below=f"{level}, new {test_set.cluster}"),
        Column(title="Borrowed", below=f"{level}, assumed"),
        Column(title="Spread from", kind="text"),
    )
    rows = [
        Row(
            entries=(
                Entry(
                    text=titles[one.arm],
                    below=f"minus {apart(titles[one.arm], titles[one.baseline])[1]}" if one.baseline else "",
                    series=series[one.arm],
                ),
                Entry(text=sizes[one.size], sort=index),
                _own(one, keys.borrowed(one)),
                _assumed(one, keys.borrowed(one)),
                Entry(text=sizes[one.from_size], below=plural(one.n_replicates, replicate_noun(one.estimand))),
            )
        )
        for index, one in enumerate(found)
    ]
    caption = (
        f"Single runs in {test_set.measure_title}: the interval over new {test_set.cluster} alone, and the one that would hold new draws "
        "too, assuming that the spread of draws does not grow with the number of labels."
    )
    return Table(key=f"borrowed-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _own(one: Borrowed, key: str) -> Entry:
    sign = bool(one.baseline)
    text = signed(one.estimate) if sign else number(one.estimate)
    # The interval over patients alone is that of the cell, or of the difference, itself.
    beside = ends(one.own_low, one.own_high, key.removesuffix("/borrowed"), sign=sign)
    return Entry(text=text, below=interval(one.own_low, one.own_high, sign=sign), sort=one.estimate, numbers=((text, key), *beside))


def _assumed(one: Borrowed, key: str) -> Entry:
    sign = bool(one.baseline)
    return Entry(text=interval(one.low, one.high, sign=sign), sort=one.low, numbers=ends(one.low, one.high, key, sign=sign))
