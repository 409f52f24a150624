"""Views over findings and replicates together on a page: the middle half of each arm, and how often one arm beats another."""

from __future__ import annotations

import math

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, ends, interval, scale_of, series_of
from orchestrator.report.keys import Keys
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import Report, TestSet, View
from orchestrator.report.wording import apart, estimand_words, number, percent, plural, signed

_SAID = (
    "A mean over findings can hang on one of them, or on one run that failed. The middle half is the mean without the lowest and the "
    "highest quarter of all findings and runs together; the probability of improvement is how often a run of the arm beats one of its "
    "baseline, averaged over findings. Both are views: nothing is tested with them, and findings are not drawn again."
)


def view_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the views of one test set; None where there is one finding, of which a mean hides nothing."""
    found = [one for one in report.views if one.test_set == test_set.key and one.n_findings > 1]
    alone, pairs = [one for one in found if one.baseline is None], [one for one in found if one.baseline is not None]
    tables = (*((_arms(report, test_set, alone),) if alone else ()), *((_pairs(report, test_set, pairs),) if pairs else ()))
    return Block(key="views", title="Over findings and runs together", sentences=(_SAID,), tables=tables) if tables else None


def _arms(report: Report, test_set: TestSet, found: list[View]) -> Table:
    series, keys = series_of(test_set.arms), Keys.of(report.test_sets)
    scale = _scale(found, test_set.reference)
    places = {(one.arm, one.size): one for one in found}
    sizes = [size for size in test_set.sizes if any(one.size == size.key for one in found)]
    rows = [
        Row(
            entries=(
                Entry(text=arm.title, series=series[arm.key]),
                *(
                    _entry(places[arm.key, size.key], scale, series[arm.key], keys, test_set)
                    if (arm.key, size.key) in places
                    else Entry(text="")
                    for size in sizes
                ),
            ),
            floor=arm.floor,
        )
        for arm in test_set.arms
        if any(one.arm == arm.key for one in found)
    ]
    columns = (Column(title="Arm", kind="text"), *(Column(title=f"Middle half, {size.title}", scale=scale) for size in sizes))
    caption = (
        f"Middle half of {test_set.label_measure_title} over {plural(found[0].n_findings, 'finding')} and all runs, with "
        f"{percent(report.confidence)} intervals of the crossed bootstrap."
    )
    return Table(key=f"views-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _pairs(report: Report, test_set: TestSet, found: list[View]) -> Table:
    titles, series, keys = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms), Keys.of(report.test_sets)
    sizes = {size.key: (index, size.title) for index, size in enumerate(test_set.sizes)}
    middle = {_place(one): one for one in found if one.name == "interquartile_mean_difference"}
    better = {_place(one): one for one in found if one.name == "probability_of_improvement"}
    scales = _scale(list(middle.values()), 0.0, math.inf), Scale(low=0.0, high=1.0, ticks=(0.0, 0.5, 1.0), reference=0.5)
    rows = [
        Row(
            entries=(
                Entry(text=titles[arm], below=f"minus {apart(titles[arm], titles[base])[1]}", series=series[arm]),
                Entry(text=sizes[size][1], sort=sizes[size][0]),
                _entry(middle[arm, base, size], scales[0], series[arm], keys, test_set),
                _entry(better[arm, base, size], scales[1], series[arm], keys, test_set),
            )
        )
        for arm, base, size in middle
    ]
    level = percent(report.confidence)
    columns = (
        Column(title="Arm", below="minus its baseline", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Middle half", below=f"difference, {level} interval", scale=scales[0]),
        Column(title="Probability of improvement", below=f"{level} interval", scale=scales[1]),
    )
    caption = (
        f"Declared differences over {plural(found[0].n_findings, 'finding')} and runs together; draws that both arms share are drawn "
        "again together."
    )
    return Table(key=f"views-differences-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _place(one: View) -> tuple[str, str, str]:
    return one.arm, one.baseline or "", one.size


def _scale(found: list[View], reference: float | None, reach: float = 0.25) -> Scale:
    return scale_of([value for one in found for value in (one.low, one.high, one.value)], reference=reference, reach=reach)


def _entry(one: View, scale: Scale, series: int, keys: Keys, test_set: TestSet) -> Entry:
    sign = one.name == "interquartile_mean_difference"
    key = keys.view(one, test_set.measure)
    text = signed(one.value) if sign else number(one.value)
    return Entry(
        text=text,
        below=interval(one.low, one.high, sign=sign),
        sort=one.value,
        # That there is one run, and that runs are missing, stands at the arm's own number.
        marks=("no interval",) if one.low is None else (),
        strip=Strip(scale=scale, value=one.value, low=one.low, high=one.high, hollow=Status.ONE_RUN in one.status, series=series),
        title=estimand_words(one.estimand),
        numbers=((text, key), *ends(one.low, one.high, key, sign=sign)),
    )
