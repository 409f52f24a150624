"""What stands where: each test set as blocks, verdicts aside, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from orchestrator.report import findings, published_tables, tables
from orchestrator.report.entries import Table
from orchestrator.report.figures.curves import label_efficiency
from orchestrator.report.figures.drawing import Figure
from orchestrator.report.values import Report, TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One of several views of a block, such as one number of labels. A page shows one at a time, print and texts show all."""

    title: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One answer: its figures, its tables, and views of it. `title` is empty where the heading above says enough."""

    key: str
    title: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    panels: tuple[Panel, ...] = ()
    #: What the panels differ in.
    panels_by: str = "Number of labels"

    def all_figures(self) -> tuple[Figure, ...]:
        """Return the figures of the block and of its panels."""
        return (*self.figures, *chain.from_iterable(panel.figures for panel in self.panels))

    def all_tables(self) -> tuple[Table, ...]:
        """Return the tables of the block and of its panels."""
        return (*self.tables, *chain.from_iterable(panel.tables for panel in self.panels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is shown of one test set."""

    test_set: TestSet
    blocks: tuple[Block, ...]


def sections(report: Report) -> tuple[Section, ...]:
    """Lay out every test set: headline table, curves, by finding, pairwise, diagnostics. A block without content is left out."""
    return tuple(Section(test_set=one, blocks=tuple(_blocks(report, one))) for one in report.test_sets)


def _blocks(report: Report, test_set: TestSet) -> Iterable[Block]:
    made = (_held_out,) if test_set.by_folds else (_headline, _curves, _findings, _pairwise, _published)
    for make in made:
        block = make(report, test_set)
        if block.all_figures() or block.all_tables():
            yield block


def _held_out(report: Report, test_set: TestSet) -> Block:
    return Block(key="folds", tables=(tables.folds(report, test_set),))


def _headline(report: Report, test_set: TestSet) -> Block:
    return Block(key="headline", tables=(tables.headline(report, test_set),))


def _curves(report: Report, test_set: TestSet) -> Block:
    return Block(key="curves", title="With more labels", figures=_known(label_efficiency(report, test_set)))


def _findings(report: Report, test_set: TestSet) -> Block:
    shown = () if len(test_set.labels) < 2 else test_set.sizes
    panels = tuple(
        Panel(
            title=size.title,
            tables=_there(findings.findings(report, test_set, size.key), findings.finding_differences(report, test_set, size.key)),
        )
        for size in shown
    )
    return Block(key="findings", title="By finding", panels=panels)


def _pairwise(report: Report, test_set: TestSet) -> Block:
    return Block(key="pairwise", title="Against the baseline", tables=_there(tables.differences(report, test_set)))


def _published(report: Report, test_set: TestSet) -> Block:
    made = published_tables.published(report, test_set)
    panels = tuple(Panel(title=one.columns[2].below, tables=(one,)) for one in made)
    return Block(key="published", title="As published", panels=panels, panels_by="Original study")


def _known(*found: Figure | None) -> tuple[Figure, ...]:
    return tuple(one for one in found if one is not None)


def _there(*found: Table | None) -> tuple[Table, ...]:
    return tuple(one for one in found if one is not None)
