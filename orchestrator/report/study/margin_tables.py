"""Equivalence and non-inferiority on a page."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Table, ends, interval, series_of
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.margins import EQUIVALENT, NOT_SHOWN, NOT_WORSE, SILENT
from orchestrator.report.study.values import MarginVerdict
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import apart, p_value, percent

_OUTCOMES = {
    EQUIVALENT: "equivalent",
    NOT_WORSE: "not worse",
    NOT_SHOWN: "neither is shown",
    SILENT: "cannot be tested",
}


def margin_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the verdicts against the margin of one test set; None when the sweep declares no margin."""
    found = [one for one in report.study.margins if one.test_set == test_set.key]
    if not found:
        return None
    margin = f"{found[0].margin:g}"
    counts = {outcome: sum(one.outcome == outcome for one in found) for outcome in _OUTCOMES}
    said = ", ".join(f"{count} {_OUTCOMES[outcome]}" for outcome, count in counts.items() if count)
    sentence = (
        f"Against a margin of {margin} in {test_set.measure_title}, declared in the sweep, of {len(found)} comparisons: {said}. That no "
        "difference is shown is not equivalence; only the interval inside the margins is."
    )
    return Block(
        key="margin", title="Equivalence", sentences=(sentence,) if report.makes_verdicts else (), tables=(_table(report, test_set, found),)
    )


def _table(report: Report, test_set: TestSet, found: list[MarginVerdict]) -> Table:
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    sizes, keys = {size.key: size.title for size in test_set.sizes}, StudyKeys.of(report)
    level = percent(round(2 * report.confidence - 1, 6))
    columns = (
        Column(title="Arm", below="minus its baseline", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title=f"{level} interval"),
        Column(title="p, equivalent", below="Holm"),
        Column(title="p, not worse", below="Holm"),
        Column(title="Shown"),
    )
    rows = [
        Row(
            entries=(
                Entry(text=titles[one.arm], below=f"minus {apart(titles[one.arm], titles[one.baseline])[1]}", series=series[one.arm]),
                Entry(text=sizes[one.size], sort=index),
                Entry(
                    text=interval(one.low, one.high, sign=True) or "–",
                    sort=one.low,
                    numbers=ends(one.low, one.high, keys.margin(one), sign=True),
                ),
                _p(one.p_equivalent_adjusted, f"{keys.margin(one)}.p_adjusted"),
                _p(one.p_not_worse_adjusted, f"{keys.not_worse(one)}.p_adjusted"),
                Entry(text=_OUTCOMES[one.outcome], sort=one.outcome),
            )
        )
        for index, one in enumerate(found)
    ]
    caption = (
        f"Two one-sided tests of differences in {test_set.measure_title} against a margin of {found[0].margin:g}. An arm is equivalent to "
        f"its baseline when the {level} interval lies inside the margins, and not worse when its lower end does, each after Holm."
    )
    return Table(key=f"margin-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _p(value: float | None, key: str) -> Entry:
    return Entry(text=p_value(value), sort=value, numbers=((p_value(value), key),) if value is not None else ())
