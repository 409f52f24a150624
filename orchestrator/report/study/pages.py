"""The parts of a section that concern the study as a whole, in the order in which they are shown."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.study.average_tables import average_block
from orchestrator.report.study.borrowed_tables import borrowed_block
from orchestrator.report.study.curve_tables import curve_block
from orchestrator.report.study.group_tables import group_block
from orchestrator.report.study.margin_tables import margin_block
from orchestrator.report.study.pair_tables import pair_block
from orchestrator.report.study.rank_tables import rank_block
from orchestrator.report.study.split_tables import split_block
from orchestrator.report.values import Report, TestSet


def blocks(report: Report, test_set: TestSet) -> tuple[Block, ...]:
    """Return what is shown of one test set."""
    made = (
        make(report, test_set)
        for make in (group_block, margin_block, pair_block, rank_block, curve_block, borrowed_block, split_block, average_block)
    )
    return tuple(block for block in made if block is not None)
