"""The average over test sets on a page, below the last of them."""

from __future__ import annotations

import math

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, ends, interval, marks_of, scale_of, series_of
from orchestrator.report.stats.estimate import Status
from orchestrator.report.study.average_words import averaged_size, averaged_title
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.values import Average
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import apart, estimand_words, number, p_value, percent, signed


def average_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the averages that end with a test set; None for the others, and where there is one test set alone."""
    found = [one for one in report.study.averages if one.test_sets[-1] == test_set.key]
    if not found:
        return None
    titles = {one.key: one.title for one in report.test_sets}
    names = [titles[key] for key in found[0].test_sets]
    shared = found[0].n_shared
    what = (
        f"{shared:,} of {found[0].n_clusters:,} {test_set.cluster} are in more than one of them and count as one cluster" if shared else ""
    )
    said = (
        f"The average gives {', '.join(names[:-1])} and {names[-1]} equal weights, each with its own findings. It is about these test sets "
        f"and no others; their {test_set.cluster} are never pooled" + (f", and {what}." if what else ".")
    )
    cells, differences = [one for one in found if one.baseline is None], [one for one in found if one.baseline is not None]
    several = list(dict.fromkeys(one.title for one in cells if len(set(one.arms)) > 1))
    if several:
        said += f" Of {' and '.join(several)} each test set has the model of its own card; a replicate is the mean over them."
    tables = (_cells(report, test_set, cells), *((_differences(report, test_set, differences),) if differences else ()))
    return Block(key="average", title="Average over test sets", sentences=(said,), tables=tables)


def _cells(report: Report, test_set: TestSet, found: list[Average]) -> Table:
    series, keys = series_of(test_set.arms), StudyKeys.of(report)
    scale = scale_of([value for one in found for value in (one.low, one.high, one.estimate)], reference=test_set.reference)
    sizes = [size for size in test_set.sizes if any(one.size == size.key for one in found)]
    places = {(one.arm, one.size): one for one in found}
    shown = {one.arm: (one.title, series[one.arms[-1]]) for one in found}
    rows = [
        Row(
            entries=(
                Entry(text=title, series=own),
                *(_number(places[arm, size.key], scale, own, keys) if (arm, size.key) in places else Entry(text="") for size in sizes),
            ),
            floor=own < 0,
        )
        for arm, (title, own) in shown.items()
    ]
    test_sets = [one for one in report.test_sets if one.key in found[0].test_sets]
    columns = (Column(title="Arm", kind="text"), *(Column(title=averaged_size(test_sets, size.key), scale=scale) for size in sizes))
    caption = (
        f"Average of {averaged_title(test_sets)} over {len(test_sets)} test sets with {percent(report.confidence)} intervals; a "
        "replicate that a test set lacks is left out of all of them."
    )
    return Table(key=f"average-{found[0].measure}", caption=caption, columns=columns, rows=tuple(rows))


def _differences(report: Report, test_set: TestSet, found: list[Average]) -> Table:
    series, keys = series_of(test_set.arms), StudyKeys.of(report)
    test_sets = [one for one in report.test_sets if one.key in found[0].test_sets]
    sizes = {size.key: averaged_size(test_sets, size.key) for size in test_set.sizes}
    scale = scale_of([value for one in found for value in (one.low, one.high, one.estimate)], reference=0.0, reach=math.inf)
    rows = [
        Row(
            entries=(
                Entry(text=one.title, below=f"minus {apart(one.title, one.baseline_title or '')[1]}", series=series[one.arms[-1]]),
                Entry(text=sizes[one.size], sort=index),
                _number(one, scale, series[one.arms[-1]], keys),
                _twin(one, keys.average(one)),
                _p(one, keys.average(one)),
            )
        )
        for index, one in enumerate(found)
    ]
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Difference", below=f"{percent(report.confidence)} interval", scale=scale),
        Column(title="Bootstrap", below="of draws and patients"),
        Column(title="p", below="Holm"),
    )
    caption = (
        f"Declared differences in the average over {len(found[0].test_sets)} test sets; p values are adjusted by Holm within each "
        "contrast, apart from those of single test sets."
    )
    return Table(key=f"average-differences-{found[0].measure}", caption=caption, columns=columns, rows=tuple(rows))


def _number(one: Average, scale: Scale, series: int, keys: StudyKeys) -> Entry:
    sign, key = one.baseline is not None, keys.average(one)
    planned = one.n_replicates + len(one.missing)
    marks = marks_of(one.status, n_runs=one.n_replicates, n_planned=planned, noun="replicate")
    if one.estimate is None:
        return Entry(text="–", marks=marks)
    text = signed(one.estimate) if sign else number(one.estimate)
    return Entry(
        text=text,
        below=interval(one.low, one.high, sign=sign),
        sort=one.estimate,
        marks=marks,
        strip=Strip(scale=scale, value=one.estimate, low=one.low, high=one.high, hollow=Status.ONE_RUN in one.status, series=series),
        title=estimand_words(one.estimand),
        numbers=((text, key), *ends(one.low, one.high, key, sign=sign)),
    )


def _twin(one: Average, key: str) -> Entry:
    """Return the interval of the bootstrap that answers what the headline does, where there is one."""
    made = {each.method: each for each in one.estimates}
    twin = made.get("crossed_bootstrap") or made.get("patient_bootstrap")
    if twin is None or twin.low is None:
        return Entry(text="–")
    numbers = ends(twin.low, twin.high, f"{key}@{twin.method}", sign=True)
    return Entry(text=interval(twin.low, twin.high, sign=True), sort=twin.low, title=estimand_words(twin.estimand), numbers=numbers)


def _p(one: Average, key: str) -> Entry:
    if one.p_adjusted is None:
        return Entry(text="–")
    adjusted, raw = p_value(one.p_adjusted), p_value(one.p)
    return Entry(text=adjusted, below=f"raw {raw}", sort=one.p_adjusted, numbers=((adjusted, f"{key}.p_adjusted"), (raw, f"{key}.p")))
