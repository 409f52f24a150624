"""The parts of a section that concern the study as a whole, in the order in which they are shown."""

from __future__ import annotations

from orchestrator.report.blocks import Block
from orchestrator.report.study.curve_tables import curve_block
from orchestrator.report.values import Report, TestSet


def blocks(report: Report, test_set: TestSet) -> tuple[Block, ...]:
    """Return what is shown of one test set."""
    return tuple(block for block in (curve_block(report, test_set),) if block is not None)
