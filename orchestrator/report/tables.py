"""Tables as values: what each entry says, how it sorts, and the little plot beside it. HTML and Markdown are made from the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import ArmInfo, Cell, Difference, FoldArea, LabelInfo, LedgerRow, Report, TestSet
from orchestrator.report.wording import (
    METHOD_NAMES,
    SINGULAR,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The axis of a column of little plots, in the unit of its numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]
    #: Where no difference, or no discrimination, is; None when that lies outside.
    reference: float | None

    def place(self, value: float) -> float:
        """Return where a value stands, 0 at the left end and 1 at the right, kept inside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One little plot: an estimate, its interval and the replicates it was made of."""

    scale: Scale
    value: float
    low: float | None = None
    high: float | None = None
    points: tuple[float, ...] = ()
    #: A range that is no interval (what chance gives).
    band: tuple[float, float] | None = None
    hollow: bool = False
    series: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a table."""

    text: str
    below: str = ""
    sort: float | str | None = None
    #: Short warnings.
    marks: tuple[str, ...] = ()
    strip: Strip | None = None
    #: Which series of the figures an arm is; -1 for the floor.
    series: int | None = None
    title: str = ""
    mono: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: `kind` is text, number or plot."""

    title: str
    below: str = ""
    kind: str = "number"
    scale: Scale | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; floor rows stand apart."""

    entries: tuple[Entry, ...]
    floor: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table with its caption."""

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""


def series_of(arms: Sequence[ArmInfo]) -> dict[str, int]:
    """Number the arms as figures and tables colour them; floor rows are -1."""
    playing = [arm.key for arm in arms if not arm.floor]
    return {**{arm.key: -1 for arm in arms if arm.floor}, **{key: index for index, key in enumerate(playing)}}


def scale_of(values: Iterable[float | None], *, reference: float, reach: float = 0.25) -> Scale:
    """Return an axis with round ends around some values; the reference is on it when it lies within `reach` of their span."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=reference), max(known, default=reference)
    span = max(high - low, 0.02)
    if low - reach * span < reference < high + reach * span:
        low, high = min(low, reference), max(high, reference)
    step = _step(high - low)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if high <= low:
        high = low + step
    ticks = tuple(round(low + index * step, 6) for index in range(round((high - low) / step) + 1))
    shown = ticks if len(ticks) <= 3 else (ticks[0], ticks[-1])
    if low <= reference <= high:
        # The reference is named first, and an end that would touch its name is not.
        apart = [tick for tick in shown if abs(tick - reference) > 0.22 * (high - low)]
        shown = tuple(sorted({*apart, reference}))
    return Scale(low=low, high=high, ticks=shown, reference=reference if low <= reference <= high else None)


def _step(span: float) -> float:
    rough = max(span, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough - 1e-12)


def interval(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """Write an interval's ends, or nothing."""
    if low is None or high is None:
        return ""
    return f"{signed(low)} to {signed(high)}" if sign else f"{number(low)}–{number(high)}"


def marks_of(status: Sequence[str], *, n_runs: int, n_planned: int, noun: str = "run") -> tuple[str, ...]:
    """Return what must stand beside a number, in a few words each."""
    found: list[str] = []
    for word in status:
        if word == Status.MISSING_RUNS:
            found.append(f"{n_runs} of {plural(n_planned, noun)}")
        elif not (word == Status.NOT_ESTIMABLE and n_runs == 0):
            found.append(STATUS_NAMES[word])
    return tuple(found)


def headline(report: Report, test_set: TestSet) -> Table:
    """Return arms by numbers of labels."""
    cells = {(one.arm, one.size): one for one in report.cells if one.test_set == test_set.key}
    scale = scale_of([bound for one in cells.values() for bound in (one.low, one.high, one.estimate)], reference=0.5)
    series = series_of(test_set.arms)
    columns = [Column(title="Arm", kind="text")]
    columns += [
        Column(title=size.title, below=_size_below(size.n_labeled_patients, size.n_labeled, size.key), scale=scale)
        for size in test_set.sizes
    ]
    columns.append(Column(title="Tuned over", below="candidates a run"))
    rows = [
        Row(
            entries=(
                Entry(text=arm.title, below="floor: no network" if arm.floor else "", series=series[arm.key], sort=arm.title),
                *(cell_entry(cells.get((arm.key, size.key)), scale, series[arm.key]) for size in test_set.sizes),
                Entry(text=str(arm.candidates), sort=arm.candidates),
            ),
            floor=arm.floor,
        )
        for arm in test_set.arms
    ]
    return Table(key=f"headline-{test_set.key}", caption=_headline_caption(report, test_set), columns=tuple(columns), rows=tuple(rows))


def _headline_caption(report: Report, test_set: TestSet) -> str:
    first = test_set.measure_title[:1].upper() + test_set.measure_title[1:]
    scope = "" if test_set.n_clusters == 0 else f" on {plural(test_set.n_clusters, SINGULAR[test_set.cluster], test_set.cluster)}"
    level = percent(report.confidence)
    return f"{first}{scope}: mean over replicates with its {level} interval for new replicates and new {test_set.cluster}."


def _size_below(patients: float | None, images: float | None, key: str) -> str:
    if patients is None:
        return ""
    shown = [] if key.startswith("count=") else [f"{patients:,.0f} patients"]
    return ", ".join([*shown, *([f"{images:,.0f} images"] if images is not None else [])])


def cell_entry(cell: Cell | None, scale: Scale, series: int) -> Entry:
    """Return one arm's number with its interval and its marks."""
    if cell is None:
        return Entry(text="", title="not planned")
    marks = marks_of(cell.status, n_runs=cell.n_runs, n_planned=cell.n_planned)
    if cell.estimate is None:
        return Entry(text="–", marks=marks, title="no run is there")
    return Entry(
        text=number(cell.estimate),
        below=interval(cell.low, cell.high),
        sort=cell.estimate,
        marks=marks,
        strip=Strip(
            scale=scale,
            value=cell.estimate,
            low=cell.low,
            high=cell.high,
            points=tuple(point.value for point in cell.points),
            hollow=Status.ONE_RUN in cell.status,
            series=series,
        ),
        title=f"{estimand_words(cell.estimand)}; {METHOD_NAMES.get(cell.method, cell.method)}; {plural(cell.n_runs, 'run')}",
    )


def differences(report: Report, test_set: TestSet) -> Table | None:
    """Return every declared difference, with its replicates; None when nothing was declared."""
    found = [one for one in report.differences if one.test_set == test_set.key]
    if not found:
        return None
    scale = scale_of(_extent(found), reference=0.0, reach=math.inf)
    titles, sizes = {arm.key: arm.title for arm in test_set.arms}, {size.key: size.title for size in test_set.sizes}
    series = series_of(test_set.arms)
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
                difference_entry(one, scale, series[one.arm]),
                Entry(
                    text=p_value(one.p_adjusted), below=f"raw {p_value(one.p)}" if one.p_adjusted is not None else "", sort=one.p_adjusted
                ),
                Entry(text=_replicates(one), sort=one.n_replicates),
            )
        )
        for index, one in enumerate(found)
    ]
    caption = f"Differences in {test_set.measure_title} from the declared baselines; ticks are matched replicates."
    return Table(key=f"differences-{test_set.key}", caption=caption, columns=columns, rows=tuple(rows))


def _extent(found: Sequence[Difference]) -> list[float | None]:
    return [value for one in found for value in (one.low, one.high, one.estimate, *(point.value for point in one.points))]


def difference_entry(one: Difference, scale: Scale, series: int | None) -> Entry:
    """Return one difference with its interval, its replicates and its marks."""
    words = [word for word in one.status if word != Status.MISSING_RUNS]
    marks = tuple(STATUS_NAMES[word] for word in words) + (("runs missing",) if Status.MISSING_RUNS in one.status else ())
    if one.estimate is None:
        return Entry(text="–", marks=marks)
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
            points=tuple(point.value for point in one.points),
            hollow=Status.ONE_RUN in one.status,
            series=series,
        ),
        title=f"{estimand_words(one.estimand)}; {METHOD_NAMES.get(one.method, one.method)}",
    )


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


def findings(report: Report, test_set: TestSet, size: str) -> Table:
    """Return areas by finding for one number of labels."""
    cells = {(one.arm, one.label): one for one in report.label_cells if (one.test_set, one.size) == (test_set.key, size)}
    arms = [arm for arm in test_set.arms if any(key == arm.key for key, _ in cells)]
    series = series_of(test_set.arms)
    scale = scale_of([bound for one in cells.values() for bound in (one.low, one.high, one.estimate)], reference=0.5)
    columns = (
        Column(title="Finding", kind="text"),
        Column(title="Positive", below="cases (patients)"),
        *(_arm_column(arm, scale) for arm in arms),
    )
    rows = [
        Row(
            entries=(
                _finding_entry(label),
                _positive_entry(label),
                *(_plain_cell(cells.get((arm.key, label.name)), scale, series[arm.key]) for arm in arms),
            )
        )
        for label in test_set.labels
    ]
    return Table(key=f"findings-{test_set.key}-{size}", caption="AUROC by finding.", columns=columns, rows=tuple(rows))


def _arm_column(arm: ArmInfo, scale: Scale) -> Column:
    return Column(title=arm.title, below="floor" if arm.floor else "", scale=scale)


def _finding_entry(label: LabelInfo) -> Entry:
    below = [] if label.in_measure else ["not in the headline measure"]
    if label.valid_share < 0.9995 and Status.NOT_ESTIMABLE not in label.status:
        below.append(f"both classes in {percent(round(label.valid_share, 3))} of resamples")
    marks = tuple(STATUS_NAMES[word] for word in label.status)
    few = "fewer than 10 cases or patients of a class: intervals rest on little" if Status.FEW_POSITIVES in label.status else ""
    return Entry(text=label.title, below="; ".join(below), marks=marks, sort=label.title, title=few)


def _positive_entry(label: LabelInfo) -> Entry:
    total = label.n_positive + label.n_negative
    return Entry(
        text=f"{label.n_positive:,} of {total:,}",
        below=f"{label.n_positive_patients:,} patients",
        sort=label.n_positive,
    )


def _plain_cell(cell: Cell | None, scale: Scale, series: int) -> Entry:
    """Return a cell without the marks that its row or its column already carries."""
    entry = cell_entry(cell, scale, series)
    kept = tuple(mark for mark in entry.marks if mark not in (STATUS_NAMES[Status.FEW_POSITIVES], STATUS_NAMES[Status.NOT_ESTIMABLE]))
    return Entry(text=entry.text, below=entry.below, sort=entry.sort, marks=kept, strip=entry.strip, title=entry.title)


def finding_differences(report: Report, test_set: TestSet, size: str) -> Table | None:
    """Return differences by finding for one number of labels; None when no contrast was declared."""
    found = [one for one in report.label_differences if (one.test_set, one.size) == (test_set.key, size)]
    if not found:
        return None
    titles, series = {arm.key: arm.title for arm in test_set.arms}, series_of(test_set.arms)
    pairs = list(dict.fromkeys((one.arm, one.baseline) for one in found))
    scale = scale_of([bound for one in found for bound in (one.low, one.high, one.estimate)], reference=0.0, reach=math.inf)
    by_place = {(one.arm, one.baseline, one.label): one for one in found}
    rows = [
        Row(
            entries=(
                Entry(text=label.title, sort=label.title),
                *(
                    _exploratory(by_place[arm, base, label.name], scale, series[arm])
                    for arm, base in pairs
                    if (arm, base, label.name) in by_place
                ),
            )
        )
        for label in test_set.labels
    ]
    columns = (
        Column(title="Finding", kind="text"),
        *(Column(title=titles[arm], below=f"minus {apart(titles[arm], titles[base])[1]}", scale=scale) for arm, base in pairs),
    )
    caption = "Differences by finding, exploratory: q is adjusted by Benjamini–Hochberg over the findings of a column."
    return Table(key=f"finding-differences-{test_set.key}-{size}", caption=caption, columns=columns, rows=tuple(rows))


def _exploratory(one: Difference, scale: Scale, series: int) -> Entry:
    entry = difference_entry(one, scale, series)
    below = "; ".join(part for part in (entry.below, f"q {p_value(one.p_adjusted)}" if one.p_adjusted is not None else "") if part)
    strip = entry.strip and Strip(scale=scale, value=entry.strip.value, low=entry.strip.low, high=entry.strip.high, series=series)
    return Entry(text=entry.text, below=below, sort=entry.sort, strip=strip, title=entry.title)


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
        Entry(text=picked or row.checkpoint or "–", marks=("end of the grid",) if row.at_edge else (), title=f"one of {row.candidates}"),
        Entry(text="–" if row.epoch is None else f"{row.epoch:g}", sort=row.epoch),
        Entry(text=number(row.picked_value), sort=row.picked_value),
        Entry(text=row.job[:12], mono=True, title=row.trial),
    )
