"""Curves, operating points and calibration on a page: a block each, a view for each number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from orchestrator.report.blocks import Block, Panel
from orchestrator.report.diagnostics.drawings import curve_figure, not_drawn, reliability_figure
from orchestrator.report.diagnostics.lines import errors_of, name_of
from orchestrator.report.diagnostics.points import MASK, MEAN, has_f1
from orchestrator.report.diagnostics.values import Calibration, OperatingPoint, Share
from orchestrator.report.entries import Column, Entry, Row, Table, ends, interval, series_of
from orchestrator.report.keys import Keys
from orchestrator.report.measures import title_of
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.operating import F1, F1_ON_TEST
from orchestrator.report.values import ArmInfo, Report, SizeInfo, TestSet
from orchestrator.report.wording import STATUS_NAMES, number, percent, plural

T = TypeVar("T", OperatingPoint, Calibration)
#: Rules that a page shows; the others are in `report.json`.
SHOWN = ("youden", MASK, F1, F1_ON_TEST)
_RULES = {
    "youden": "at the threshold of the largest sensitivity plus specificity on validation (Youden), each run at its own",
    F1: "at the threshold of the largest F1 on validation, each run at its own",
    F1_ON_TEST: "as published: at the threshold of the largest F1 on these test rows themselves, which no new data would give",
    MASK: "where a structure counts as found when anything was drawn",
}
_TITLES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV", "accuracy": "Accuracy", F1: "F1"}


def blocks(report: Report, test_set: TestSet) -> tuple[Block, ...]:
    """Return what is shown of one test set."""
    found = (_curves(report, test_set), _points(report, test_set), _calibration(report, test_set))
    return tuple(block for block in found if block is not None)


def _curves(report: Report, test_set: TestSet) -> Block | None:
    panels = [
        Panel(title=size.title, figures=figures)
        for size in test_set.sizes
        if (figures := tuple(one for kind in ("roc", "pr") if (one := curve_figure(report, test_set, size, kind)) is not None))
    ]
    left = not_drawn(report, test_set, "roc")
    return Block(key="roc", title="At every threshold", sentences=(left,) if left else (), panels=tuple(panels)) if panels else None


def _points(report: Report, test_set: TestSet) -> Block | None:
    rows = [one for one in report.diagnostics.operating_points if one.test_set == test_set.key and one.rule in SHOWN]
    notes = tuple(note for note in report.diagnostics.notes if note.startswith(f"{test_set.title}:"))
    panels = [
        Panel(title=size.title, tables=tables)
        for size in test_set.sizes
        if (
            tables := tuple(
                _points_table(report, test_set, size, found)
                for rule in SHOWN
                if (found := [one for one in rows if one.size == size.key and one.rule == rule])
            )
        )
    ]
    return Block(key="operating", title="At a threshold", sentences=notes, panels=tuple(panels)) if panels or notes else None


def _points_table(report: Report, test_set: TestSet, size: SizeInfo, found: Sequence[OperatingPoint]) -> Table:
    arms, series, keys = {arm.key: arm for arm in test_set.arms}, series_of(test_set.arms), Keys.of(report.test_sets)
    columns = (
        Column(title="Finding", kind="text"),
        Column(title="Arm", kind="text"),
        Column(title="Threshold", below="mean over runs"),
        *(Column(title=_TITLES[share.name], below=f"{percent(report.confidence)} interval") for share in found[0].shares),
    )
    rows = [
        Row(
            entries=(
                _finding(one, found),
                _arm_entry(arms[one.arm], series[one.arm]),
                _threshold(one, name_of(keys, one, f"{one.rule}_threshold")),
                *(_share(share, test_set, name_of(keys, one, f"{one.rule}_{share.name}")) for share in one.shares),
            ),
            floor=arms[one.arm].floor,
        )
        for one in _by_finding(found)
    ]
    rule = found[0].rule
    rest = " Thresholds for a sensitivity and for a specificity of 0.9 on validation are in report.json." if rule == "youden" else ""
    return Table(
        key=f"operating-{test_set.key}-{size.key}{'' if rule in ('youden', MASK) else f'-{rule}'}",
        caption=f"Operating points, {size.title}, {_RULES[found[0].rule]}.",
        columns=columns,
        rows=tuple(rows),
        note="Means over runs, with Wilson intervals for these models and new "
        f"{test_set.cluster}: cases are divided by their design effect.{rest}",
    )


def _finding(one: OperatingPoint, found: Sequence[OperatingPoint]) -> Entry:
    if one.label != MEAN:
        return Entry(text=title_of(one.label), sort=one.label)
    counted = sum(other.label != MEAN and other.arm == one.arm and has_f1(other) for other in found)
    return Entry(
        text=f"Mean of {counted} findings", sort=one.label, title="those with a threshold, and with a test case that has the finding"
    )


def _threshold(one: OperatingPoint, key: str) -> Entry:
    marks = tuple(STATUS_NAMES[word] for word in one.status)
    if one.threshold is None:
        return Entry(text="–", marks=marks)
    spread = one.threshold_low != one.threshold_high
    below = f"{number(one.threshold_low)} to {number(one.threshold_high)}" if spread else ""
    counted = ""
    if one.n_validation_positive is not None and one.n_validation_negative is not None:
        counted = f"from {one.n_validation_positive:,.0f} validation cases with the finding and {one.n_validation_negative:,.0f} without"
    named = ((number(one.threshold), key), *(ends(one.threshold_low, one.threshold_high, key) if spread else ()))
    return Entry(text=number(one.threshold), below=below, sort=one.threshold, marks=marks, title=counted, numbers=named)


def _share(share: Share, test_set: TestSet, key: str) -> Entry:
    marks = tuple(STATUS_NAMES[word] for word in share.status if not (word == Status.NOT_ESTIMABLE and share.estimate is None))
    if share.estimate is None:
        return Entry(text="–", title="no case to take it of")
    counted = f"of {share.n:,.0f} cases, worth {plural(round(share.n_effective), 'independent one')}; {test_set.cluster} resampled"
    return Entry(
        text=number(share.estimate),
        below=interval(share.low, share.high),
        sort=share.estimate,
        marks=marks,
        title=counted,
        numbers=((number(share.estimate), key), *ends(share.low, share.high, key)),
    )


def _calibration(report: Report, test_set: TestSet) -> Block | None:
    rows = [one for one in report.diagnostics.calibrations if one.test_set == test_set.key]
    panels = [
        Panel(
            title=size.title,
            figures=tuple(one for one in (reliability_figure(report, test_set, size),) if one is not None),
            tables=(_calibration_table(report, test_set, size, found),),
        )
        for size in test_set.sizes
        if (found := [one for one in rows if one.size == size.key])
    ]
    left = not_drawn(report, test_set, "reliability")
    return Block(key="calibration", title="Calibration", sentences=(left,) if left else (), panels=tuple(panels)) if panels else None


def _calibration_table(report: Report, test_set: TestSet, size: SizeInfo, found: Sequence[Calibration]) -> Table:
    arms, series, keys = {arm.key: arm for arm in test_set.arms}, series_of(test_set.arms), Keys.of(report.test_sets)
    level = f"{percent(report.confidence)} interval"
    columns = (
        Column(title="Finding", kind="text"),
        Column(title="Arm", kind="text"),
        Column(title="Brier score", below=level),
        Column(title="Reliability"),
        Column(title="Resolution"),
        Column(title="Uncertainty"),
        Column(title="ECE, equal width", below=level),
        Column(title="ECE, equal mass", below=level),
        Column(title="Less chance", below="root mean square"),
    )
    rows = [
        Row(entries=_calibration_entries(one, arms[one.arm], series[one.arm], keys), floor=arms[one.arm].floor)
        for one in _by_finding(found)
    ]
    made = "the sigmoid of a logit" if found[0].probabilities == "sigmoid" else "the scores as they are"
    return Table(
        key=f"calibration-{test_set.key}-{size.key}",
        caption=f"Calibration, {size.title}. Probabilities are {made}; errors are over {found[0].bins} bins.",
        columns=columns,
        rows=tuple(rows),
        note="Means over runs; intervals are for these models and new "
        f"{test_set.cluster}. Brier = reliability − resolution + uncertainty + what differs within bins of equal mass. An ECE of few cases "
        "is too large, also where a model is calibrated; the last column takes off what chance adds (Kumar et al.).",
    )


def _calibration_entries(one: Calibration, arm: ArmInfo, series: int, keys: Keys) -> tuple[Entry, ...]:
    marks = tuple(STATUS_NAMES[word] for word in one.status)
    counted = f"{one.n:,} cases, {percent(round(one.prevalence, 3))} positive"
    return (
        Entry(text=title_of(one.label), sort=one.label, marks=marks, title=counted),
        _arm_entry(arm, series),
        *(
            Entry(
                text=number(value),
                below=interval(low, high),
                sort=value,
                numbers=() if value is None else ((number(value), name_of(keys, one, what)), *ends(low, high, name_of(keys, one, what))),
            )
            for what, value, low, high in errors_of(one)
        ),
    )


def _arm_entry(arm: ArmInfo, series: int) -> Entry:
    return Entry(text=arm.title, series=series, sort=arm.title)


def _by_finding(found: Sequence[T]) -> list[T]:
    """Order rows by finding, arms within it as they stand."""
    order = list(dict.fromkeys(one.label for one in found))
    return sorted(found, key=lambda one: order.index(one.label))
