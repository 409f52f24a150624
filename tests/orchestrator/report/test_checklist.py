"""The checklist: what the report answers it says where, and what it cannot answer it leaves to the authors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.report import checklist
from orchestrator.report.analysis import build
from orchestrator.report.render import write
from tests.orchestrator.report.made_run import leave_pair_out, quickstart


def test_topics_are_filled_where_the_report_answers_them(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, patients=120, draws=2)
    report = build(plan, made.run)
    states = {one.topic: one.state for one in checklist.answers(report)}
    assert states["Performance with intervals, also by finding"] == "filled"
    assert states["Uncertainty and significance: what is random, which test, how adjusted"] == "filled"
    assert states["Clinical background, intended use and users"] == "authors"
    assert states["Evaluation on data from elsewhere"] == "authors", "one test set"
    elsewhere = replace(report, test_sets=(*report.test_sets, replace(report.test_sets[0], key="other", card="other")))
    assert {one.topic: one.state for one in checklist.answers(elsewhere)}["Evaluation on data from elsewhere"] == "filled"
    assert {"filled", "in part", "authors"} == set(states.values())


def test_a_report_without_intervals_does_not_claim_them(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path)
    states = {one.topic: one.state for one in checklist.answers(build(plan, made.run))}
    assert states["Performance with intervals, also by finding"] == "authors"
    assert states["Measures of performance"] == "filled"


def test_it_is_written_beside_the_page_and_on_it(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, patients=120, draws=2)
    write(build(plan, made.run), tmp_path / "report")
    text = (tmp_path / "report" / "checklist.md").read_text(encoding="utf-8")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    for edition in checklist.EDITIONS:
        assert edition in text and edition in page
    assert text.count("\n| ") == 2 + len(checklist.answers(build(plan, made.run)))
    assert 'id="checklist"' in page
