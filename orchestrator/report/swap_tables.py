"""Two single models on a page: what exchanging them patient by patient says beside what influence values say."""

from __future__ import annotations

import math

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, scale_of, series_of
from orchestrator.report.keys import Keys
from orchestrator.report.values import Report, SwapTest, TestSet
from orchestrator.report.wording import SINGULAR, STATUS_NAMES, apart, number, p_value, signed


def swap_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the tests of single models; None where no declared difference is of one run a side."""
    found = [one for one in report.swap_tests if one.test_set == test_set.key]
    if not found:
        return None
    cluster = SINGULAR[test_set.cluster]
    said = (
        f"Where each arm is one run, the two models are exchanged {cluster} by {cluster}, all images together, their scores ranked within "
        "each model: had it made no difference which model scored whom, every exchange was as likely. It stands beside the p value of "
        "influence values (DeLong; Obuchowski's where images share a patient). Below each p stands the smallest that it could have given. "
        "Both are about these models and no method; nothing is adjusted."
    )
    return Block(key="swaps", title="Two models, exchanged", sentences=(said,), tables=(_table(report, test_set, found),))


def _table(report: Report, test_set: TestSet, found: list[SwapTest]) -> Table:
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    sizes = {size.key: (index, size.title) for index, size in enumerate(test_set.sizes)}
    names, keys = {label.name: label.title for label in test_set.labels}, Keys.of(report.test_sets)
    scale = scale_of([one.statistic for one in found], reference=0.0, reach=math.inf)
    rows = [
        Row(
            entries=(
                Entry(text=titles[one.arm], below=f"minus {apart(titles[one.arm], titles[one.baseline])[1]}", series=series[one.arm]),
                Entry(text=sizes[one.size][1], sort=sizes[one.size][0]),
                Entry(text=test_set.measure_title if one.label is None else names[one.label]),
                _difference(one, scale, series[one.arm], keys.swap(one, test_set.measure)),
                Entry(text=p_value(one.analytic_p), sort=one.analytic_p),
                _p(one, keys.swap(one, test_set.measure)),
            )
        )
        for one in found
    ]
    columns = (
        Column(title="Arm", below="minus its baseline", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Finding", kind="text"),
        Column(title="Difference", scale=scale),
        Column(title="p, influence values"),
        Column(title="p, exchanged"),
    )
    how = "every exchange" if all(one.exact for one in found) else "sampled exchanges"
    caption = f"Differences of single models in AUROC, by {how} of the models in {test_set.cluster}; raw p values."
    return Table(key=f"swaps-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _difference(one: SwapTest, scale: Scale, series: int, key: str) -> Entry:
    marks = tuple(STATUS_NAMES[word] for word in one.status)
    if one.statistic is None:
        return Entry(text=number(None), marks=marks)
    text = signed(one.statistic)
    strip = Strip(scale=scale, value=one.statistic, hollow=True, series=series)
    return Entry(text=text, sort=one.statistic, marks=marks, strip=strip, numbers=((text, key),))


def _p(one: SwapTest, key: str) -> Entry:
    text = p_value(one.p)
    numbers = () if one.p is None else ((text, f"{key}.p"),)
    return Entry(text=text, below=f"at least {one.smallest_p:.2g}" if one.smallest_p else "", sort=one.p, numbers=numbers)
