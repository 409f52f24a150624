"""The variance split on a page: what makes an interval wide, and what would narrow it."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Table, series_of
from orchestrator.report.study.keys import StudyKeys, widths
from orchestrator.report.study.values import VarianceSplit
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import apart, percent, replicate_noun


def split_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the variance split of a test set: of its declared differences, or of its arms where none is declared."""
    every = [one for one in report.study.variance_splits if one.test_set == test_set.key]
    found = [one for one in every if one.contrast is not None] or every
    if not found:
        return None
    more = report.study.more_draws
    said = f"By the intervals, {more.why}: `orchestrate submit` with `--repeats {more.option}` adds exactly those." if more else ""
    caution = "Decide on the width of an interval and not on a p value that was missed: draws added until p is small make it too small."
    return Block(
        key="next",
        title="What to run next",
        sentences=((said, caution) if said else ("No further draw narrows an interval by a twentieth.",)),
        tables=(_table(report, test_set, found),),
    )


def _table(report: Report, test_set: TestSet, found: list[VarianceSplit]) -> Table:
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    sizes = {size.key: size.title for size in test_set.sizes}
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Share of variance", below="draws / patients / both"),
        Column(title="Half width", below=f"{percent(report.confidence)} interval"),
        *(Column(title=_what(index, found)) for index in range(len(found[0].forecasts))),
        Column(title="Any number of draws"),
        Column(title="Worth having", below="replicates"),
    )
    keys = StudyKeys.of(report)
    rows = [
        Row(
            entries=(
                Entry(
                    text=titles[one.arm],
                    below=f"minus {apart(titles[one.arm], titles[one.baseline])[1]}" if one.baseline else "",
                    series=series[one.arm],
                ),
                Entry(text=sizes[one.size], sort=index),
                Entry(text=_shares(one)),
                *(_width(value, keys.width(one, name)) for name, value in widths(one)),
                Entry(text=str(one.enough), below=f"of {one.n_replicates} now", sort=one.enough),
            )
        )
        for index, one in enumerate(found)
    ]
    caption = (
        f"Where the width of an interval of {test_set.measure_title} comes from, and the half width that is expected with more draws or "
        "more test patients."
    )
    return Table(key=f"next-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _what(index: int, found: list[VarianceSplit]) -> str:
    one, first = found[0], found[0].forecasts[index]
    more = first.replicates - one.n_replicates
    noun = replicate_noun(one.estimand)
    return f"{more} more {noun}s" if more else f"{first.patients:g}× patients"


def _width(value: float, key: str) -> Entry:
    return Entry(text=f"±\u202f{value:.4f}", sort=value, numbers=((f"{value:.4f}", key),))


def _shares(one: VarianceSplit) -> str:
    """Write the shares of one replicate's variance in percent."""
    parts = (one.draw, one.patient, one.interaction)
    total = sum(parts)
    return " / ".join(f"{100 * part / total:.0f}\u202f%" for part in parts) if total > 0 else "–"
