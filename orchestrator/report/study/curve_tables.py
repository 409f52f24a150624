"""Whole curves on a page: sentences, and a table of areas, trends and labels that are worth as much."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Scale, Strip, Table, ends, interval, scale_of, series_of
from orchestrator.report.stats.estimate import Status
from orchestrator.report.study.chains import position
from orchestrator.report.study.curves import AREA, TREND
from orchestrator.report.study.keys import StudyKeys
from orchestrator.report.study.values import CurveDifference, Equivalence
from orchestrator.report.values import Report, TestSet
from orchestrator.report.wording import (
    STATUS_NAMES,
    apart,
    estimand_words,
    number,
    p_value,
    percent,
    plural,
    replicate_noun,
    signed,
)


def curve_block(report: Report, test_set: TestSet) -> Block | None:
    """Return what is said of whole curves on one test set; None when no contrast has two sizes."""
    found = [one for one in report.study.curve_differences if one.test_set == test_set.key]
    if not found:
        return None
    worth = [one for one in report.study.equivalences if one.test_set == test_set.key]
    sentences = [_area_sentence(one, test_set, report.confidence) for one in found if one.kind == AREA and one.estimate is not None]
    firsts = {(one.contrast, one.arm, one.baseline): one for one in reversed(worth)}
    sentences += [_worth_sentence(firsts[key], test_set, report.confidence) for key in reversed(firsts)]
    tables = (_differences(report, test_set, found), *((_worth(report, test_set, worth),) if worth else ()))
    return Block(
        key="whole-curves",
        title="Across all numbers of labels",
        sentences=(*(sentences if report.makes_verdicts else ()), *_left_out(found, test_set)),
        tables=tables,
    )


def _names(one: CurveDifference | Equivalence, test_set: TestSet) -> tuple[str, str, str]:
    titles = {arm.key: arm.title for arm in test_set.arms}
    arm, base, shared = apart(titles[one.arm], titles[one.baseline])
    return arm, base, f" (both with {shared})" if shared else ""


def _area_sentence(one: CurveDifference, test_set: TestSet, confidence: float) -> str:
    arm, base, shared = _names(one, test_set)
    numbers = [position(size) or 0.0 for size in test_set.sizes if size.key in one.sizes]
    unit = "patients" if test_set.sizes[0].n_labeled_patients is not None else "images"
    span = f"Over {min(numbers):,.0f} to {max(numbers):,.0f} labelled {unit}"
    if one.estimate is None or one.p_adjusted is None or one.p_adjusted >= 1 - confidence:
        head = f"{span} no mean difference between {arm} and {base}{shared} is shown: {signed(one.estimate)}"
    else:
        way = "higher" if one.estimate > 0 else "lower"
        head = f"{span}, {arm} scores {number(abs(one.estimate))} {way} than {base}{shared} on average"
    return f"{head} ({_evidence(one, confidence)})."


def _evidence(one: CurveDifference, confidence: float) -> str:
    noun = replicate_noun(one.estimand)
    parts: list[str] = []
    if one.low is not None:
        parts.append(f"{percent(confidence)} CI {interval(one.low, one.high, sign=True)}, {estimand_words(one.estimand)}")
    if one.p_adjusted is not None:
        parts.append(f"Holm-adjusted p {p_value(one.p_adjusted)}")
    matched = "matched " if one.matching == "matched" else ""
    return "; ".join([*parts, f"{one.n_chains} {matched}{noun}{'s' if one.n_chains != 1 else ''} followed through {len(one.sizes)} sizes"])


def _worth_sentence(one: Equivalence, test_set: TestSet, confidence: float) -> str:
    arm, base, shared = _names(one, test_set)
    size = next(size for size in test_set.sizes if size.key == one.size)
    start = f"With {size.title} {arm} scores"
    if one.beyond == "above":
        head = f"{start} more than {base}{shared} ever does: it would take more than {times(one.highest)} as many labels"
    elif one.beyond == "below":
        head = f"{start} less than {base}{shared} does with {times(one.lowest)} as many labels, the fewest that were tried"
    else:
        head = f"{start} as {base}{shared} does with {times(one.factor)} as many labels"
    within = worth_interval(one)
    return f"{head} ({percent(confidence)} CI {within})." if within else f"{head}."


def times(factor: float | None) -> str:
    """Write a factor: `3.2×`."""
    if factor is None:
        return "–"
    return f"{factor:.0f}×" if factor >= 9.95 else f"{factor:.1f}×" if factor >= 0.995 else f"{factor:.2f}×"


def worth_text(one: Equivalence) -> str:
    """Write an equivalence factor, or that it lies beyond what was tried."""
    if one.beyond == "above":
        return f">\u00a0{times(one.highest)}"
    return f"<\u00a0{times(one.lowest)}" if one.beyond == "below" else times(one.factor)


def worth_interval(one: Equivalence) -> str:
    """Write its interval; an end beyond what was tried is said to be so. Empty where there is none."""
    if one.method == "none":
        return ""
    least, most = f"below {times(one.lowest)}", f"beyond {times(one.highest)}"
    if one.low is not None and one.low >= one.highest * (1 - 1e-9):
        return most
    if one.high is not None and one.high <= one.lowest * (1 + 1e-9):
        return least
    return f"{times(one.low) if one.low is not None else least} to {times(one.high) if one.high is not None else most}"


def _differences(report: Report, test_set: TestSet, found: Sequence[CurveDifference]) -> Table:
    series, titles, keys = series_of(test_set.arms), {arm.key: arm.title for arm in test_set.arms}, StudyKeys.of(report)
    rows: list[Row] = []
    kinds = {kind: [one for one in found if one.kind == kind] for kind in (AREA, TREND)}
    scales = {kind: _scale(listed) for kind, listed in kinds.items()}
    for area, trend in zip(kinds[AREA], kinds[TREND], strict=True):
        rows.append(
            Row(
                entries=(
                    Entry(
                        text=titles[area.arm], below=f"minus {apart(titles[area.arm], titles[area.baseline])[1]}", series=series[area.arm]
                    ),
                    _entry(area, scales[AREA], series[area.arm], keys.curve(area)),
                    _p_entry(area, keys.curve(area)),
                    _entry(trend, scales[TREND], series[trend.arm], keys.curve(trend)),
                    _p_entry(trend, keys.curve(trend)),
                    _chains(area),
                )
            )
        )
    level = percent(report.confidence)
    columns = (
        Column(title="Arm", below="minus its baseline", kind="text"),
        Column(title="Mean difference", below=f"over log labels, {level} interval", scale=scales[AREA]),
        Column(title="p", below="Holm"),
        Column(title="Per doubling", below=f"change of the difference, {level} interval", scale=scales[TREND]),
        Column(title="p", below="Holm"),
        Column(title="Replicates", kind="text"),
    )
    caption = (
        f"Curves of {test_set.measure_title}: the area between two of them over the logarithm of the number of labels, and the trend of "
        "their difference. Ticks are replicates, each followed through all sizes."
    )
    return Table(key=f"whole-curves-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _scale(listed: Sequence[CurveDifference]) -> Scale:
    values = [value for one in listed for value in (one.low, one.high, one.estimate, *(point.value for point in one.points))]
    return scale_of(values, reference=0.0, reach=math.inf)


def _entry(one: CurveDifference, scale: Scale, series: int, key: str) -> Entry:
    marks = tuple("runs missing" if word == Status.MISSING_RUNS else STATUS_NAMES[word] for word in one.status)
    if one.estimate is None:
        return Entry(text="–", marks=marks, title="; ".join(one.left_out))
    points = tuple(point.value for point in one.points if point.value is not None)
    return Entry(
        text=signed(one.estimate),
        below=interval(one.low, one.high, sign=True),
        sort=one.estimate,
        marks=marks,
        strip=Strip(scale=scale, value=one.estimate, low=one.low, high=one.high, points=points, series=series),
        title=estimand_words(one.estimand),
        numbers=((signed(one.estimate), key), *ends(one.low, one.high, key, sign=True)),
    )


def _p_entry(one: CurveDifference, key: str) -> Entry:
    if one.p_adjusted is None:
        return Entry(text="–")
    adjusted, raw = p_value(one.p_adjusted), p_value(one.p)
    return Entry(text=adjusted, below=f"raw {raw}", sort=one.p_adjusted, numbers=((adjusted, f"{key}.p_adjusted"), (raw, f"{key}.p")))


def _chains(one: CurveDifference) -> Entry:
    noun = replicate_noun(one.estimand)
    words = {
        "matched": f"{one.n_chains} matched {noun}s",
        "nested": f"{plural(one.n_chains, noun)} an arm",
        "none": "fewer than two",
    }
    gaps = f"; {len(one.incomplete)} with a gap" if one.incomplete else ""
    return Entry(text=words[one.matching], below=f"{plural(len(one.sizes), 'size')}{gaps}", sort=one.n_chains)


def _worth(report: Report, test_set: TestSet, worth: Sequence[Equivalence]) -> Table:
    series, titles, keys = series_of(test_set.arms), {arm.key: arm.title for arm in test_set.arms}, StudyKeys.of(report)
    sizes = [size for size in test_set.sizes if any(one.size == size.key for one in worth)]
    by_place = {(one.contrast, one.arm, one.baseline, one.size): one for one in worth}
    rows = [
        Row(
            entries=(
                Entry(text=titles[arm], below=f"against {apart(titles[arm], titles[base])[1]}", series=series[arm]),
                *(_worth_entry(by_place.get((contrast, arm, base, size.key)), keys) for size in sizes),
            )
        )
        for contrast, arm, base in dict.fromkeys((one.contrast, one.arm, one.baseline) for one in worth)
    ]
    columns = (Column(title="Arm", kind="text"), *(Column(title=f"With {size.title}") for size in sizes))
    caption = (
        "Label equivalence: how many times as many labels the baseline needs to score as the arm does, read off the baseline's monotone "
        "curve between the numbers of labels that were tried and never beyond them."
    )
    return Table(key=f"equivalence-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _worth_entry(one: Equivalence | None, keys: StudyKeys) -> Entry:
    if one is None:
        return Entry(text="")
    sort = one.factor if one.factor is not None else one.highest * 2 if one.beyond == "above" else one.lowest / 2
    marks = tuple("runs missing" if word == Status.MISSING_RUNS else STATUS_NAMES[word] for word in one.status)
    own = ", ".join(times(point.value) if point.value is not None else point.beyond for point in one.points)
    key = keys.equivalence(one)
    named = ((one.factor, key), (one.low, f"{key}.low"), (one.high, f"{key}.high"))
    # An end that is the last number of labels is said to be `beyond` it and is no number of its own.
    numbers = tuple((times(value).rstrip("×"), name) for value, name in named if value is not None and times(value) in _printed(one))
    title = f"by replicate: {own}" if own else ""
    return Entry(text=worth_text(one), below=worth_interval(one), sort=sort, marks=marks, title=title, numbers=numbers)


def _printed(one: Equivalence) -> list[str]:
    return f"{worth_text(one)} {worth_interval(one)}".split(" ")


def _left_out(found: Sequence[CurveDifference], test_set: TestSet) -> list[str]:
    listed = dict.fromkeys(reason for one in found for reason in one.left_out)
    said = [f"Left out of whole curves: {'; '.join(listed)}."] if listed else []
    titles = {arm.key: arm.title for arm in test_set.arms}
    gaps = [name.rpartition(": ") for name in dict.fromkeys(name for one in found for name in one.incomplete)]
    named = "; ".join(f"{titles.get(arm, arm)}: {replicate}" for arm, _, replicate in gaps)
    return [*said, *([f"Not followed through all sizes, and left out here: {named}."] if gaps else [])]
