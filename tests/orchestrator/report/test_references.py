"""Published values in a made report: where they stand, what is said of those that have no place, and that nothing is tested with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report import record
from orchestrator.report.analysis import build
from orchestrator.report.checking.check import check
from orchestrator.report.figures.curves import label_efficiency
from orchestrator.report.layout import sections
from orchestrator.report.render import html, markdown, write
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import quickstart

PAPER = "Sowrirajan et al. 2021, Table 2"
KNOWN: dict[str, Any] = {"name": "MoCo-CXR", "count": 64, "value": 0.913, "low": 0.9, "high": 0.92, "source": PAPER}


def with_references(folder: Path, *asked: dict[str, Any]) -> Report:
    made, plan = quickstart(folder, patients=80, draws=3)
    return build(replace(plan, report=replace(plan.report, reference=asked)), made.run)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    other = {"after": "none", "count": 256, "value": 0.8, "source": "somebody 2020", "data": "phantom", "measure": "auroc_macro"}
    return with_references(tmp_path_factory.mktemp("run"), KNOWN, {**KNOWN, "count": 256, "value": 0.95}, other)


def test_they_are_rows_with_their_source_and_marks_in_the_curve(report: Report) -> None:
    shown = sections(report)
    table = shown[0].blocks[0].tables[0]
    rows = [[entry.text for entry in row.entries] for row in table.rows][-2:]
    assert rows == [["MoCo-CXR", "0.913", "0.950", ""], ["after none", "", "0.800", ""]]
    assert table.rows[-2].entries[0].below == f"published: {PAPER}"
    assert table.rows[-2].entries[1].below == "0.900–0.920"
    figure = label_efficiency(report, report.test_sets[0])
    assert figure is not None
    assert f"MoCo-CXR ({PAPER}): 0.913 at 64" in figure.alt
    assert "MoCo-CXR (published)" in figure.wide
    assert "MoCo-CXR (published)" in figure.narrow
    assert "Stars are published values, which nothing is tested against" in figure.caption
    for page in (html(report, shown), markdown(report, shown)):
        assert PAPER in page
        assert "not tested against" in page


def test_nothing_but_what_is_shown_changes(report: Report, tmp_path: Path) -> None:
    bare = with_references(tmp_path)
    assert replace(report, references=()) == bare
    assert not any("reference" in warning for warning in report.warnings)
    assert record.parse(record.text(report)).references == report.references
    # A published value is never the best of its column, however high.
    shown = sections(report)[0].blocks[0].tables[0]
    assert {entry.rank for row in shown.rows[-2:] for entry in row.entries} == {None}


def test_a_check_of_our_own_page_leaves_published_values_alone(report: Report, tmp_path: Path) -> None:
    titled = replace(report, references=tuple(replace(one, title="no pretraining as published") for one in report.references))
    write(titled, tmp_path)
    assert check(record.read(tmp_path / "report.json"), [tmp_path / "report.md", tmp_path / "report.tex"]).faults == ()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({**KNOWN, "data": "mimic"}, "no test set is mimic"),
        ({**KNOWN, "measure": "auroc/edema"}, "auroc/edema is the headline measure of none"),
        ({**KNOWN, "count": 65}, "no run has that number of labels"),
        ({"name": "MoCo-CXR", "value": 0.9, "source": PAPER}, "it names no number of labels, and no run has all of them"),
    ],
)
def test_a_value_without_a_place_is_said(tmp_path: Path, asked: dict[str, Any], why: str) -> None:
    report = with_references(tmp_path, asked)
    assert report.references == ()
    assert any(f"The published value of MoCo-CXR ({PAPER}) has no place: {why}" in warning for warning in report.warnings)


def test_values_of_one_source_without_a_place_are_one_sentence_a_reason(tmp_path: Path) -> None:
    """A sample leaves data sets out, and each of them may have dozens of published values."""
    many = [{**KNOWN, "name": f"arm {number}", "data": "mimic"} for number in range(5)]
    report = with_references(tmp_path, *many, {**KNOWN, "name": "one alone", "data": "vindr"})
    said = [warning for warning in report.warnings if "no place" in warning]
    assert said == [
        f"The published values of arm 0; arm 1; arm 2 and 2 more ({PAPER}) have no place: no test set is mimic.",
        f"The published value of one alone ({PAPER}) has no place: no test set is vindr.",
    ]
