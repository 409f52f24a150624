"""The tables of a report: headline, differences, folds and the ledger."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.report import marks
from orchestrator.report.entries import (
    Column,
    Entry,
    Row,
    Scale,
    Strip,
    Table,
    cell_entry,
    difference_entry,
    interval,
    scale_of,
    series_of,
)
from orchestrator.report.keys import Keys
from orchestrator.report.values import ArmInfo, Difference, FoldArea, LedgerRow, Reference, Report, SizeInfo, TestSet
from orchestrator.report.wording import (
    SINGULAR,
    apart,
    number,
    p_value,
    percent,
    plural,
    replicate_noun,
)


def headline(report: Report, test_set: TestSet) -> Table:
    """Return arms by numbers of labels."""
    cells = {(one.arm, one.size): one for one in report.cells if one.test_set == test_set.key}
    found = [one for one in report.differences if one.test_set == test_set.key]
    scale = scale_of([bound for one in cells.values() for bound in (one.low, one.high, one.estimate)], reference=test_set.reference)
    series, keys = series_of(test_set.arms), Keys.of(report.test_sets)
    signs = marks.signed_places(found, marks.signs_of(found), report.confidence)
    ranks: dict[tuple[str, str], int | None] = {}
    for size in test_set.sizes:
        column = marks.ranks([cells.get((arm.key, size.key)) for arm in test_set.arms], higher_is_better=test_set.higher_is_better)
        ranks |= {(arm.key, size.key): rank for arm, rank in zip(test_set.arms, column, strict=True)}

    def entry(arm: str, size: str) -> Entry:
        cell = cells.get((arm, size))
        key = keys.cell(cell) if cell else ""
        return cell_entry(cell, scale, series[arm], key=key, rank=ranks[arm, size], signs=signs.get((arm, size, None), ()))

    columns = [Column(title="Arm", kind="text")]
    columns += [Column(title=size.title, below=_size_below(size), scale=scale) for size in test_set.sizes]
    tuned = any(arm.candidates for arm in test_set.arms)
    columns += [Column(title="Tuned over", below="candidates a run")] if tuned else []
    rows = [
        Row(
            entries=(
                Entry(text=arm.title, below="floor: no network" if arm.floor else "", series=series[arm.key], sort=arm.title),
                *(entry(arm.key, size.key) for size in test_set.sizes),
                *((Entry(text=str(arm.candidates), sort=arm.candidates),) if tuned else ()),
            ),
            floor=arm.floor,
        )
        for arm in test_set.arms
    ]
    rows += _published_rows(report, test_set, tuned=tuned)
    return Table(
        key=f"headline-{test_set.key}",
        caption=_headline_caption(report, test_set),
        columns=tuple(columns),
        rows=tuple(rows),
        note=marks.legend(list(cells.values()), found, test_set, confidence=report.confidence, column="column"),
        drawn="Ticks are the runs; a hollow dot with a broken line is one run.",
    )


def _published_rows(report: Report, test_set: TestSet, *, tuned: bool) -> list[Row]:
    """Return a row for each published value, each with its source; of one title and source all numbers of labels stand in one row."""
    found: dict[tuple[str, str], dict[str, Reference]] = {}
    for one in report.references:
        if one.test_set == test_set.key:
            found.setdefault((one.title, one.source), {})[one.size] = one
    return [
        Row(
            entries=(
                Entry(text=title, below=f"published: {source}", sort=title),
                *(
                    Entry(text=number(own[size.key].value), below=interval(own[size.key].low, own[size.key].high), title="published")
                    if size.key in own
                    else Entry(text="")
                    for size in test_set.sizes
                ),
                *((Entry(text=""),) if tuned else ()),
            ),
            floor=True,
        )
        for (title, source), own in found.items()
    ]


def _headline_caption(report: Report, test_set: TestSet) -> str:
    first = test_set.measure_title[:1].upper() + test_set.measure_title[1:]
    scope = "" if test_set.n_clusters == 0 else f" on {plural(test_set.n_clusters, SINGULAR[test_set.cluster], test_set.cluster)}"
    level = percent(report.confidence)
    published = " Published values are shown as they were printed and not tested against." if _has_published(report, test_set) else ""
    return f"{first}{scope}: mean over replicates with its {level} interval for new replicates and new {test_set.cluster}.{published}"


def _has_published(report: Report, test_set: TestSet) -> bool:
    return any(one.test_set == test_set.key for one in report.references)


def _size_below(size: SizeInfo) -> str:
    if size.n_labeled_patients is None:
        return ""
    shown = [] if size.key.startswith("count=") else [f"{size.n_labeled_patients:,.0f} patients"]
    shown += [f"{size.n_labeled:,.0f} images"] if size.n_labeled is not None else []
    spread = f" on average (draws of {size.drawn_range[0]:,} to {size.drawn_range[1]:,})" if size.drawn_range else ""
    return ", ".join(shown) + spread


def differences(report: Report, test_set: TestSet) -> Table | None:
    """Return every declared difference, with its replicates; None when nothing was declared."""
    found = [one for one in report.differences if one.test_set == test_set.key]
    if not found:
        return None
    scale = scale_of(_extent(found), reference=0.0, reach=math.inf)
    titles, sizes = {arm.key: arm.title for arm in test_set.arms}, {size.key: size.title for size in test_set.sizes}
    series, keys = series_of(test_set.arms), Keys.of(report.test_sets)
    signs = marks.signs_of(found)
    columns = (
        Column(title="Arm", below="minus its baseline", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Difference", below=f"{percent(report.confidence)} interval", scale=scale),
        Column(title="p", below="Holm"),
        Column(title="Replicates", kind="text"),
    )
    rows = [
        Row(
            entries=(
                Entry(text=titles[one.arm], below=f"minus {apart(titles[one.arm], titles[one.baseline])[1]}", series=series[one.arm]),
                Entry(text=sizes[one.size], sort=index),
                difference_entry(
                    one,
                    scale,
                    series[one.arm],
                    key=keys.difference(one),
                    signs=(signs[one.contrast],) if marks.passes(one, report.confidence) else (),
                ),
                _p_entry(one, keys.difference(one)),
                Entry(text=_replicates(one), sort=one.n_replicates),
            )
        )
        for index, one in enumerate(found)
    ]
    caption = f"Differences in {test_set.measure_title} from the declared baselines."
    note = marks.legend([], found, test_set, confidence=report.confidence, column="column")
    drawn = "Ticks are matched replicates; a hollow dot is one run."
    return Table(key=f"differences-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows), note=note, drawn=drawn)


def _p_entry(one: Difference, key: str) -> Entry:
    if one.p_adjusted is None:
        return Entry(text="–", sort=None)
    adjusted, raw = p_value(one.p_adjusted), p_value(one.p)
    return Entry(text=adjusted, below=f"raw {raw}", sort=one.p_adjusted, numbers=((adjusted, f"{key}.p_adjusted"), (raw, f"{key}.p")))


def _extent(found: Sequence[Difference]) -> list[float | None]:
    return [value for one in found for value in (one.low, one.high, one.estimate, *(point.value for point in one.points))]


def _replicates(one: Difference) -> str:
    noun = replicate_noun(one.estimand)
    counted = plural(one.n_replicates, noun)
    words = {
        "matched": f"{one.n_replicates} matched {noun}s",
        "nested": f"{counted} an arm, not matched",
        "fixed_reference": f"{counted}, fixed reference",
        "one_run": "one run an arm",
        "none": "nothing to match",
    }
    alone = f" ({len(one.unmatched)} without a partner)" if one.unmatched else ""
    return words[one.matching] + alone


def folds(report: Report, test_set: TestSet) -> Table:
    """Return areas within folds beside the range that chance gives."""
    found = [one for one in report.folds if one.test_set == test_set.key]
    arms, series = {arm.key: arm for arm in test_set.arms}, series_of(test_set.arms)
    scale = scale_of([value for one in found for value in (one.estimate, one.chance_low, one.chance_high)], reference=0.5, reach=math.inf)
    several = len(test_set.labels) > 1
    titles = {label.name: label.title for label in test_set.labels}
    columns = (
        Column(title="Arm", kind="text"),
        Column(title="AUROC within folds", below=f"band: what chance gives, {percent(report.confidence)}", scale=scale),
        Column(title="Chance range"),
        Column(title="p", below="permutation"),
        Column(title="Folds"),
        Column(title="Patients", below="positive, negative"),
    )
    rows = [
        Row(
            entries=_fold_entries(one, arms[one.arm], titles[one.label] if several else "", scale, series[one.arm]),
            floor=arms[one.arm].floor,
        )
        for one in found
    ]
    caption = (
        "Held-out cases compared within each fold. The band is the range of areas when labels are dealt to patients at random; "
        "it is not an interval."
    )
    return Table(key=f"folds-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _fold_entries(one: FoldArea, arm: ArmInfo, label: str, scale: Scale, series: int) -> tuple[Entry, ...]:
    marks = (f"{one.n_planned - len(one.missing)} of {plural(one.n_planned, 'fold')}",) if one.missing else ()
    band = (one.chance_low, one.chance_high) if one.chance_low is not None and one.chance_high is not None else None
    strip = None if one.estimate is None else Strip(scale=scale, value=one.estimate, band=band, series=series)
    return (
        Entry(text=arm.title, below=label or ("floor: no network" if arm.floor else ""), series=series, sort=arm.title),
        Entry(text=number(one.estimate), sort=one.estimate, marks=marks, strip=strip),
        Entry(text=interval(one.chance_low, one.chance_high) or "–", sort=one.chance_low),
        Entry(text=p_value(one.chance_p), sort=one.chance_p),
        Entry(text=str(one.n_folds), sort=one.n_folds),
        Entry(text=f"{one.n_positive_patients}, {one.n_negative_patients}", sort=one.n_positive_patients),
    )


def ledger(report: Report) -> Table:
    """Return every planned evaluation, there or not."""
    titles = {(test_set.key, arm.key): arm.title for test_set in report.test_sets for arm in test_set.arms}
    several = len(report.test_sets) > 1
    columns = (
        *((Column(title="Test set", kind="text"),) if several else ()),
        Column(title="Arm", kind="text"),
        Column(title="Labels", kind="text"),
        Column(title="Replicate", kind="text"),
        Column(title="Result"),
        Column(title="Trained on", below="patients, images"),
        Column(title="Draw", kind="text"),
        Column(title="Picked", kind="text"),
        Column(title="Epoch"),
        Column(title="Validation"),
        Column(title="Job", kind="text"),
    )
    rows = [Row(entries=_ledger_entries(row, titles[row.test_set, row.arm], several), missing=not row.present) for row in report.ledger]
    return Table(key="ledger", caption="Every planned evaluation.", columns=columns, rows=tuple(rows))


def _tried(row: LedgerRow) -> str:
    """Say among how many candidates a pick chose, and what for each label."""
    said = f"one of {row.candidates}" + (f", {row.stopped} of them stopped early" if row.stopped else "")
    said += f", {row.lost} of them diverged, collapsed or without a value" if row.lost else ""
    return "; ".join([said, *(f"{label}: {names}" for label, names in row.by_label.items())])


def _picked_text(row: LedgerRow, picked: str) -> str:
    """Say the tuned values, or else the checkpoints; where each label has its own, what they are stands in the title and in the JSON."""
    return "; ".join(filter(None, (picked, "checkpoints by label" if row.by_label else ""))) or row.checkpoint or "–"


def _ledger_entries(row: LedgerRow, title: str, several: bool) -> tuple[Entry, ...]:
    picked = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.picked.items())
    size = row.size.partition("=")[2] or row.size
    if not row.present:
        result = Entry(text="missing", sort=None)
    else:
        result = Entry(text=number(row.value) if row.value is not None else "held out", sort=row.value)
    trained = "–" if row.n_labeled_patients is None else f"{row.n_labeled_patients:,}, {row.n_labeled_images or 0:,}"
    return (
        *((Entry(text=row.test_set),) if several else ()),
        Entry(text=title),
        Entry(text=size, sort=float(size) if size.replace(".", "", 1).isdigit() else size),
        Entry(text=row.replicate),
        result,
        Entry(text=trained, sort=row.n_labeled_patients),
        Entry(text=(row.draw or "–")[:8], mono=True),
        Entry(text=_picked_text(row, picked), marks=("end of the grid",) if row.at_edge else (), title=_tried(row)),
        Entry(text="–" if row.epoch is None else f"{row.epoch:g}", sort=row.epoch),
        Entry(text=number(row.picked_value), sort=row.picked_value),
        Entry(text=row.job[:12], mono=True, title=row.trial),
    )
