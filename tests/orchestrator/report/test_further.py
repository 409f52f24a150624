"""What else masks are measured by: each number is what a report with that measure for its headline says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report import further_table
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.record import record
from tests.orchestrator.report.test_measures import report_of, segmented, two_arms


def test_further_measures_are_those_of_reports_of_their_own(tmp_path: Path) -> None:
    path = segmented(tmp_path / "x.parquet")
    report = report_of(path)
    assert {one.measure for one in report.further} == {"dice_as_published", "dice_pooled", "hd95"}
    for measure in ("dice_as_published", "dice_pooled", "hd95"):
        own = {one.arm: one for one in report_of(path, measure=measure).cells}
        for cell in (one for one in report.further if one.measure == measure):
            assert cell == own[cell.arm]
    names = [line.key for line in lines(report)]
    assert len(names) == len(set(names))
    assert any("structures a run were not found" in said for said in report.methods)
    assert any(said.startswith("HD95 is the median") or "HD95 is the median" in said for said in report.methods)


def test_they_stand_in_a_table_below_the_headline_an_arm_a_row(tmp_path: Path) -> None:
    report = report_of(segmented(tmp_path / "x.parquet"))
    table = further_table.further(report, report.test_sets[0])
    assert table is not None
    assert [column.title for column in table.columns] == ["Arm", "Dice, empty masks count 1", "pooled Dice", "HD95"]
    assert [column.below for column in table.columns][-1] == "lower is better"
    assert [row.entries[0].text for row in table.rows] == [arm.title for arm in report.test_sets[0].arms]
    assert [block.key for block in sections(report)[0].blocks][:2] == ["headline", "further"]


def test_a_report_of_scores_has_none_and_says_nothing_of_it(tmp_path: Path) -> None:
    report = report_of(two_arms(tmp_path / "x.parquet")[0])
    assert report.further == ()
    assert "further" not in record(report)
    assert "further" in json.loads(json.dumps(record(replace(report, further=report.cells))))
    assert further_table.further(report, report.test_sets[0]) is None


@pytest.mark.parametrize("measure", ["dice_pooled", "hd95/lung"])
def test_what_is_the_headline_is_not_said_again(tmp_path: Path, measure: str) -> None:
    report = report_of(segmented(tmp_path / "x.parquet"), measure=measure)
    shown = measure.partition("/")[0]
    assert shown not in {one.measure for one in report.further}
