"""Subgroups on a page: a table of arms and one of differences for each column, a view for each number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from orchestrator.report.blocks import Block, Panel
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, ends, interval, scale_of, series_of
from orchestrator.report.keys import Keys
from orchestrator.report.stats.estimate import Status
from orchestrator.report.subgroups.lines import name_of
from orchestrator.report.subgroups.values import Subgroup, SubgroupEstimate
from orchestrator.report.values import Report, SizeInfo, TestSet
from orchestrator.report.wording import METHOD_NAMES, STATUS_NAMES, apart, estimand_words, number, p_value, plural, signed


def blocks(report: Report, test_set: TestSet) -> tuple[Block, ...]:
    """Return what is shown of one test set; what could not be made is said on the first page."""
    groups = [one for one in report.subgroups.groups if one.test_set == test_set.key]
    if not groups:
        return ()
    columns = list(dict.fromkeys(one.column for one in groups))
    panels = tuple(
        Panel(title=size.title, tables=tuple(table for column in columns for table in _tables(report, test_set, size, column)))
        for size in test_set.sizes
    )
    return (Block(key="subgroups", title="Subgroups", panels=panels),)


def _tables(report: Report, test_set: TestSet, size: SizeInfo, column: str) -> list[Table]:
    groups = [one for one in report.subgroups.groups if (one.test_set, one.column) == (test_set.key, column)]
    found = [one for one in report.subgroups.estimates if (one.test_set, one.column, one.size) == (test_set.key, column, size.key)]
    alone, against = [one for one in found if one.baseline is None], [one for one in found if one.baseline is not None]
    made = [_of_arms(report, test_set, size, groups, alone)] if alone else []
    return [*made, _of_differences(report, test_set, size, groups, against)] if against else made


def _of_arms(report: Report, test_set: TestSet, size: SizeInfo, groups: Sequence[Subgroup], found: Sequence[SubgroupEstimate]) -> Table:
    keys, series = Keys.of(report.test_sets), series_of(test_set.arms)
    arms = [arm for arm in test_set.arms if any(one.arm == arm.key for one in found)]
    scale = scale_of([bound for one in found for bound in (one.low, one.high, one.estimate)], reference=test_set.reference)
    by_place = {(one.arm, one.value): one for one in found}
    rows = [
        Row(
            entries=(
                *_group_entries(group, test_set),
                *(_entry(by_place[arm.key, group.value], scale, series[arm.key], keys, group) for arm in arms),
            )
        )
        for group in groups
    ]
    title = test_set.measure_title
    return Table(
        key=f"subgroups-{test_set.key}-{size.key}-{groups[0].column}",
        caption=f"{title[:1].upper()}{title[1:]} by {groups[0].column}, {size.title}.",
        columns=(*_heads(groups, test_set), *(Column(title=arm.title, scale=scale) for arm in arms)),
        rows=tuple(rows),
        note="Over other findings a macro average is another measure: where a subgroup has too few cases of some, its row says so.",
    )


def _of_differences(
    report: Report, test_set: TestSet, size: SizeInfo, groups: Sequence[Subgroup], found: Sequence[SubgroupEstimate]
) -> Table:
    keys, series = Keys.of(report.test_sets), series_of(test_set.arms)
    titles = {arm.key: arm.title for arm in test_set.arms}
    pairs = list(dict.fromkeys((one.arm, str(one.baseline)) for one in found))
    scale = scale_of([bound for one in found for bound in (one.low, one.high, one.estimate)], reference=0.0, reach=inf)
    by_place = {(one.arm, str(one.baseline), one.value): one for one in found}
    rows = [
        Row(
            entries=(
                *_group_entries(group, test_set),
                *(_entry(by_place[arm, base, group.value], scale, series[arm], keys, group) for arm, base in pairs),
            )
        )
        for group in groups
    ]
    return Table(
        key=f"subgroup-differences-{test_set.key}-{size.key}-{groups[0].column}",
        caption=f"Differences in {test_set.measure_title} by {groups[0].column}, {size.title}; exploratory: q is adjusted by "
        "Benjamini–Hochberg over the subgroups of a column.",
        columns=(
            *_heads(groups, test_set),
            *(Column(title=titles[arm], below=f"minus {apart(titles[arm], titles[base])[1]}", scale=scale) for arm, base in pairs),
        ),
        rows=tuple(rows),
        note="A difference that is shown in one subgroup and not in another is no sign that the subgroups differ.",
    )


def _heads(groups: Sequence[Subgroup], test_set: TestSet) -> tuple[Column, ...]:
    return Column(title=groups[0].column.capitalize(), kind="text"), Column(title=test_set.cluster.capitalize(), below="units")


def _group_entries(group: Subgroup, test_set: TestSet) -> tuple[Entry, ...]:
    below = ""
    if group.n_findings != group.n_findings_overall:
        below = f"over {group.n_findings} of {plural(group.n_findings_overall, 'finding')}"
    marks = tuple(STATUS_NAMES[word] for word in group.status)
    counted = Entry(text=f"{group.n_clusters:,}", below=f"{group.n_units:,}", sort=group.n_clusters, title=test_set.cluster)
    return Entry(text=group.value, below=below, marks=marks), counted


def _entry(one: SubgroupEstimate, scale: Scale, series: int, keys: Keys, group: Subgroup) -> Entry:
    marks = tuple(STATUS_NAMES[word] for word in one.status if word not in (*group.status, Status.MISSING_RUNS))
    if one.estimate is None:
        return Entry(text="–", marks=marks)
    is_difference = one.baseline is not None
    shown, key = (signed if is_difference else number)(one.estimate), name_of(keys, one)
    adjusted = p_value(one.p_adjusted)
    below = [interval(one.low, one.high, sign=is_difference), *([f"q {adjusted}"] if one.p_adjusted is not None else [])]
    return Entry(
        text=shown,
        below="; ".join(text for text in below if text),
        sort=one.estimate,
        marks=marks,
        strip=Strip(scale=scale, value=one.estimate, low=one.low, high=one.high, hollow=Status.ONE_RUN in one.status, series=series),
        title=f"{estimand_words(one.estimand)}; {METHOD_NAMES.get(one.method, one.method)}" if one.estimand else "",
        numbers=(
            (shown, key),
            *ends(one.low, one.high, key, sign=is_difference),
            *(((adjusted, f"{key}.p_adjusted"),) if one.p_adjusted is not None else ()),
        ),
    )
