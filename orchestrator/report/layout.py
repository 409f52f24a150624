"""What stands where: each test set as blocks, verdicts aside, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.report import alone_tables, findings, further_table, published_tables, tables
from orchestrator.report.blocks import Block, Panel
from orchestrator.report.diagnostics.tables import blocks as diagnostic_blocks
from orchestrator.report.entries import Table
from orchestrator.report.figures.curves import label_efficiency
from orchestrator.report.figures.drawing import Figure
from orchestrator.report.figures.forest import forest
from orchestrator.report.figures.heatmap import heatmap
from orchestrator.report.figures.pairs import pairs
from orchestrator.report.study.pages import blocks as study_blocks
from orchestrator.report.subgroups.tables import blocks as subgroup_blocks
from orchestrator.report.swap_tables import swap_block
from orchestrator.report.values import Report, TestSet
from orchestrator.report.view_tables import view_block


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What is shown of one test set."""

    test_set: TestSet
    blocks: tuple[Block, ...]


def sections(report: Report) -> tuple[Section, ...]:
    """Lay out every test set: headline table, curves, by finding, pairwise, diagnostics. A block without content is left out."""
    return tuple(Section(test_set=one, blocks=tuple(_blocks(report, one))) for one in report.test_sets)


def _blocks(report: Report, test_set: TestSet) -> Iterable[Block]:
    made = (_held_out,) if test_set.by_folds else (_headline, _further, _curves, _findings, _pairwise, _runs_alone, _published)
    for make in made:
        block = make(report, test_set)
        if block.all_figures() or block.all_tables():
            yield block
    yield from (block for make in (swap_block, view_block) if (block := make(report, test_set)) is not None)
    yield from subgroup_blocks(report, test_set)
    yield from diagnostic_blocks(report, test_set)
    yield from study_blocks(report, test_set)


def _held_out(report: Report, test_set: TestSet) -> Block:
    return Block(key="folds", tables=(tables.folds(report, test_set),))


def _headline(report: Report, test_set: TestSet) -> Block:
    return Block(key="headline", tables=(tables.headline(report, test_set),))


def _further(report: Report, test_set: TestSet) -> Block:
    return Block(key="further", title="By other measures", tables=_there(further_table.further(report, test_set)))


def _curves(report: Report, test_set: TestSet) -> Block:
    return Block(key="curves", title="With more labels", figures=_known(label_efficiency(report, test_set)))


def _findings(report: Report, test_set: TestSet) -> Block:
    shown = () if len(test_set.labels) < 2 else test_set.sizes
    panels = tuple(
        Panel(
            title=size.title,
            figures=_known(forest(report, test_set, size.key), heatmap(report, test_set, size.key)),
            tables=_there(findings.findings(report, test_set, size.key), findings.finding_differences(report, test_set, size.key)),
        )
        for size in shown
    )
    return Block(key="findings", title="By finding", panels=panels)


def _pairwise(report: Report, test_set: TestSet) -> Block:
    panels = tuple(Panel(title=title, figures=(figure,)) for title, figure in pairs(report, test_set))
    return Block(
        key="pairwise",
        title="Against the baseline",
        tables=_there(tables.differences(report, test_set)),
        panels=panels,
        panels_by="Comparison",
    )


def _runs_alone(report: Report, test_set: TestSet) -> Block:
    return Block(key="runs-alone", title="Runs alone", tables=_there(alone_tables.runs_alone(report, test_set)), in_latex=False)


def _published(report: Report, test_set: TestSet) -> Block:
    made = published_tables.published(report, test_set)
    panels = tuple(Panel(title=one.columns[2].below, tables=(one,)) for one in made)
    return Block(key="published", title="As published", panels=panels, panels_by="Original study", of_others=True)


def _known(*found: Figure | None) -> tuple[Figure, ...]:
    return tuple(one for one in found if one is not None)


def _there(*found: Table | None) -> tuple[Table, ...]:
    return tuple(one for one in found if one is not None)
