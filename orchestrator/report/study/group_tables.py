"""Groups of arms on a page: the best of one against the best of another, and what validation chose."""

from __future__ import annotations

import math
from collections import Counter

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, ends, interval, scale_of
from orchestrator.report.stats.estimate import Status
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.values import GroupDifference
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import (
    STATUS_NAMES,
    alpha,
    estimand_words,
    number,
    p_value,
    percent,
    plural,
    replicate_noun,
    signed,
    size_words,
)


def group_block(report: Report, test_set: TestSet) -> Block | None:
    """Return the comparisons of groups on one test set; None when the sweep declares none that has arms there."""
    found = [one for one in report.study.groups if one.test_set == test_set.key]
    if not found:
        return None
    said = tuple(_sentence(one, report, test_set) for one in found) if report.makes_verdicts else ()
    return Block(key="groups", title="Best of each group", sentences=(*said, *_how(found)), tables=(_table(report, test_set, found),))


def _by_title(reason: str, test_set: TestSet) -> str:
    """Return a reason with arms called what the page calls them, the longest names first."""
    for arm in sorted(test_set.arms, key=lambda arm: -len(arm.key)):
        reason = reason.replace(arm.key, arm.title)
    return reason


def _sentence(one: GroupDifference, report: Report, test_set: TestSet) -> str:
    size = next(size for size in test_set.sizes if size.key == one.size)
    head = f"{size_words(size, test_set) or 'On this test set'}, "
    if one.estimate is None:
        why = _by_title(one.reason, test_set) or "the difference cannot be estimated"
        return f"{head}nothing can be said of {one.group} against {one.other} ({why})."
    amount, both = number(abs(one.estimate)), f"the best of {one.group}"
    if one.p_adjusted is None:
        why = "one run of either is not a method" if Status.ONE_RUN in one.status else "there is no test of it"
        return f"{head}nothing can be said of {both} against the best of {one.other}: {why}."
    if one.p_adjusted >= alpha(report.confidence):
        claim = f"no difference between {both} and the best of {one.other} is shown: {signed(one.estimate)} {test_set.measure_title}"
    else:
        claim = (
            f"{both} scores {amount} {'higher' if one.estimate > 0 else 'lower'} than the best of {one.other} in {test_set.measure_title}"
        )
        claim += "" if test_set.higher_is_better else " (lower is better)"
    evidence = f"{percent(report.confidence)} CI {signed(one.low)} to {signed(one.high)}, {estimand_words(one.estimand)}"
    p = p_value(one.p_adjusted)
    return f"{head}{claim} ({evidence}; Holm-adjusted p {p if p.startswith('<') else f'= {p}'}, {plural(one.n_replicates, _noun(one))})."


def _noun(one: GroupDifference) -> str:
    return replicate_noun(one.estimand)


def _how(found: list[GroupDifference]) -> tuple[str, ...]:
    """Say how the best were chosen; nothing when nothing was."""
    chosen = next((one for one in found if one.chosen_by and one.estimate is not None), None)
    if chosen is None:
        return ()
    on = f" on {plural(chosen.n_val_patients, 'validation patient')}" if chosen.n_val_patients is not None else " on validation"
    return (
        f"In every {_noun(chosen)} the arm with the best {chosen.chosen_by}{on} stands for its group; the test set chose nothing. "
        "What that choice owes to luck differs between replicates and is inside the intervals. A group of more arms had more to choose "
        "from.",
    )


def _table(report: Report, test_set: TestSet, found: list[GroupDifference]) -> Table:
    keys, sizes = StudyKeys.of(report), {size.key: size.title for size in test_set.sizes}
    titles = {arm.key: arm.title for arm in test_set.arms}
    scale = scale_of([value for one in found for value in (one.low, one.high, one.estimate)], reference=0.0, reach=math.inf)
    columns = (
        Column(title="Best of", below="chosen in each replicate", kind="text"),
        Column(title="Minus best of", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Difference", below=f"{percent(report.confidence)} interval", scale=scale),
        Column(title="p", below="Holm"),
    )
    rows = [
        Row(
            entries=(
                _side(one, one.group, one.n_arms, titles),
                _side(one, one.other, one.n_arms_other, titles),
                Entry(text=sizes[one.size], sort=index),
                _difference(one, scale, keys.groups(one)),
                _p(one, keys.groups(one)),
            )
        )
        for index, one in enumerate(found)
    ]
    family = max(one.family for one in found)
    caption = (
        f"The best arm of one group less the best of another in {test_set.measure_title}, each chosen on validation in every replicate"
        + (f"; p values are adjusted by Holm over the {plural(family, 'comparison')} of this table." if family else ".")
    )
    gaps = sorted({name for one in found for name in one.left_out})
    note = f"Left out, because a run of an arm is missing: {', '.join(gaps)}." if gaps else ""
    return Table(key=f"groups-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows), note=note)


def _side(one: GroupDifference, group: str, n_arms: int, titles: dict[str, str]) -> Entry:
    counts = Counter(titles[choice.arm] for choice in one.choices if choice.group == group)
    total = sum(counts.values())
    chosen = ", ".join(f"{title} in {count} of {total}" for title, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Entry(text=group, below=(chosen if n_arms > 1 else next(iter(counts), "")) or f"{plural(n_arms, 'arm')}, none chosen")


def _difference(one: GroupDifference, scale: Scale, key: str) -> Entry:
    marks = tuple("runs missing" if word == Status.MISSING_RUNS else STATUS_NAMES[word] for word in one.status)
    if one.estimate is None:
        return Entry(text="–", marks=marks, title=one.reason)
    return Entry(
        text=signed(one.estimate),
        below=interval(one.low, one.high, sign=True),
        sort=one.estimate,
        marks=marks,
        strip=Strip(
            scale=scale,
            value=one.estimate,
            low=one.low,
            high=one.high,
            points=tuple(point.value for point in one.points if point.value is not None),
            hollow=Status.ONE_RUN in one.status,
        ),
        title=estimand_words(one.estimand),
        numbers=((signed(one.estimate), key), *ends(one.low, one.high, key, sign=True)),
    )


def _p(one: GroupDifference, key: str) -> Entry:
    if one.p_adjusted is None:
        return Entry(text="–")
    adjusted, raw = p_value(one.p_adjusted), p_value(one.p)
    return Entry(text=adjusted, below=f"raw {raw}", sort=one.p_adjusted, numbers=((adjusted, f"{key}.p_adjusted"), (raw, f"{key}.p")))
