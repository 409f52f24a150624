"""The long form of a report: one row an estimate, each with the name by which texts and tables cite it. `report.csv` is these rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from orchestrator.report.alone_lines import alone_rows
from orchestrator.report.diagnostics.lines import diagnostic_rows
from orchestrator.report.keys import Keys
from orchestrator.report.published_lines import published_rows
from orchestrator.report.record import DIGITS, rounded
from orchestrator.report.stats.estimate import Estimate, Status
from orchestrator.report.study.lines import study_rows
from orchestrator.report.subgroups.lines import subgroup_rows
from orchestrator.report.values import Cell, Difference, LabelInfo, Report, TestSet

#: Methods that resample.
BOOTSTRAPS = frozenset({"patient_bootstrap", "patient_bootstrap_bca", "crossed_bootstrap"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One estimate. None is a number that does not exist; the order of the fields is the order of the columns."""

    sweep: str
    test_set: str
    #: cell, difference or fold; or what is said of the study as a whole.
    kind: str
    arm: str
    baseline: str | None = None
    size: str
    n_labeled: float | None = None
    label: str | None = None
    measure: str
    #: What is resampled: patients, studies or images.
    unit: str
    estimand: str
    method: str
    #: Whether tables and sentences show this row rather than another answer to the same cell.
    headline: bool
    estimate: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    df: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    adjustment: str | None = None
    B: int | None = None
    #: Share of resamples in which both classes were drawn.
    valid_share: float | None = None
    n_pos: int | None = None
    n_neg: int | None = None
    n_patients: int
    n_draws: int
    n_planned: int | None = None
    #: Warnings, joined by spaces.
    status: str
    key: str


#: Fields of a line that are numbers a text may cite; the first is what a key names on its own.
CITED = ("estimate", "low", "high", "se", "df", "p", "p_adjusted")


def lines(report: Report) -> tuple[Line, ...]:
    """Return every estimate of a report, headline and twin, in the report's order; what could not be estimated has a row that says so."""
    rows = (*alone_rows(report), *published_rows(report), *subgroup_rows(report), *diagnostic_rows(report), *study_rows(report))
    whole = (Line(**row) for row in rows)
    return tuple(_named([*_cells(report), *_differences(report), *_folds(report), *whole]))


def csv_text(report: Report) -> str:
    """Return `report.csv`: a header, then one row a line; an empty field is a number that does not exist."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    names = [item.name for item in fields(Line)]
    writer.writerow(names)
    for line in lines(report):
        writer.writerow([_field(getattr(line, name)) for name in names])
    return written.getvalue()


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{rounded(value):.{DIGITS}g}" if isinstance(value, float) else str(value)


def _named(found: list[Line]) -> Iterator[Line]:
    """Give each line a name of its own: its cell's, with `@method` where it is not the headline, numbered where two would be the same."""
    seen: dict[str, int] = {}
    for line in found:
        name = line.key if line.headline else f"{line.key}@{line.method}"
        seen[name] = seen.get(name, 0) + 1
        yield replace(line, key=name if seen[name] == 1 else f"{name}~{seen[name]}")


def _cells(report: Report) -> Iterator[Line]:
    keys, sets = Keys.of(report.test_sets), {one.key: one for one in report.test_sets}
    for cell in (*report.cells, *report.label_cells, *report.further):
        test_set = sets[cell.test_set]
        bare = Line(
            sweep=report.sweep,
            kind="cell",
            arm=cell.arm,
            size=cell.size,
            n_labeled=cell.n_labeled,
            n_draws=cell.n_replicates,
            n_planned=cell.n_planned,
            status=" ".join(cell.status),
            key=keys.cell(cell),
            **_of(cell, test_set),
        )
        yield from _answers(bare, cell, report.resamples)


def _differences(report: Report) -> Iterator[Line]:
    keys, sets = Keys.of(report.test_sets), {one.key: one for one in report.test_sets}
    for one in (*report.differences, *report.label_differences):
        test_set = sets[one.test_set]
        images = {size.key: size.n_labeled for size in test_set.sizes}
        bare = Line(
            sweep=report.sweep,
            kind="difference",
            arm=one.arm,
            baseline=one.baseline,
            size=one.size,
            n_labeled=images.get(one.size),
            adjustment=one.adjustment or None,
            n_draws=one.n_replicates,
            status=" ".join(one.status),
            key=keys.difference(one),
            **_of(one, test_set),
        )
        for line in _answers(bare, one, report.resamples):
            yield replace(line, p=one.p, p_adjusted=one.p_adjusted) if line.headline else line


def _of(one: Cell | Difference, test_set: TestSet) -> dict[str, Any]:
    """Return the fields that a cell and a difference fill alike, and the headline's answer."""
    label = next((info for info in test_set.labels if info.name == one.label), None)
    return {
        "test_set": one.test_set,
        "label": one.label,
        "measure": one.measure,
        "unit": test_set.cluster,
        "estimand": one.estimand,
        "method": one.method,
        "headline": True,
        "estimate": one.estimate,
        "low": one.low,
        "high": one.high,
        "n_patients": test_set.n_patients,
        **_classes(label),
    }


def _classes(label: LabelInfo | None) -> dict[str, Any]:
    return {} if label is None else {"n_pos": label.n_positive, "n_neg": label.n_negative, "valid_share": label.valid_share}


def _answers(bare: Line, one: Cell | Difference, resamples: int) -> Iterator[Line]:
    """Yield the headline and then every other answer. The headline's own row carries its standard error and degrees of freedom."""
    head = next((found for found in one.estimates if (found.estimand, found.method) == (one.estimand, one.method)), None)
    yield _with(bare, head, resamples) if head is not None else bare
    for found in one.estimates:
        if found is not head:
            yield replace(_with(bare, found, resamples), headline=False, adjustment=None)


def _with(bare: Line, found: Estimate, resamples: int) -> Line:
    return replace(
        bare,
        estimand=found.estimand,
        method=found.method,
        estimate=found.value,
        low=found.low,
        high=found.high,
        se=found.se,
        df=found.df,
        p=found.p,
        B=resamples if found.method in BOOTSTRAPS else None,
    )


def _folds(report: Report) -> Iterator[Line]:
    keys = Keys.of(report.test_sets)
    for one in report.folds:
        # The range that chance gives is no interval, so `low` and `high` stay empty and the range has a row of its own.
        area = Line(
            sweep=report.sweep,
            test_set=one.test_set,
            kind="fold",
            arm=one.arm,
            size="folds",
            label=one.label,
            measure="auroc_within_folds",
            unit="patients",
            estimand="these_models_these_patients",
            method="permutation",
            headline=True,
            estimate=one.estimate,
            p=one.chance_p,
            n_pos=one.n_positive_patients,
            n_neg=one.n_negative_patients,
            n_patients=one.n_positive_patients + one.n_negative_patients,
            n_draws=one.n_folds,
            n_planned=one.n_planned,
            status=" ".join([*one.status, *([Status.MISSING_RUNS] if one.missing and Status.MISSING_RUNS not in one.status else [])]),
            key=keys.fold(one),
        )
        yield area
        yield replace(area, estimand="chance", headline=False, estimate=None, low=one.chance_low, high=one.chance_high, p=None)
