"""Curves and reliability diagrams: what is drawn is what the report says, marks stand where thresholds lead, and a page stays small."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.report.diagnostics import drawings
from orchestrator.report.diagnostics.drawings import curve_figure, drawn_sizes, not_drawn, reliability_figure
from orchestrator.report.diagnostics.tables import blocks
from orchestrator.report.figures.drawing import Figure, standalone
from orchestrator.report.figures.multiples import SIDE
from orchestrator.report.layout import sections
from orchestrator.report.render import html
from orchestrator.report.stats.estimate import FEW
from orchestrator.report.values import Report
from tests.orchestrator.report.files.made_files import having, joined, write
from tests.orchestrator.report.test_diagnostics import report_of, split
from tests.orchestrator.report.test_figures import places


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    parts = [
        having(split(separation, seed=10 * seed + draw), arm=arm, draw=draw, label=label)
        for seed, (arm, separation) in enumerate((("a", 2.0), ("b", 0.8)))
        for label in ("edema", "mass")
        for draw in range(2)
    ]
    return report_of(write(tmp_path_factory.mktemp("made") / "x.csv", joined(*parts)))


def made(report: Report, kind: str) -> Figure:
    test_set = report.test_sets[0]
    found = (
        reliability_figure(report, test_set, test_set.sizes[0])
        if kind == "reliability"
        else curve_figure(report, test_set, test_set.sizes[0], kind)
    )
    assert found is not None
    return found


def lines_of(svg: str) -> list[list[tuple[float, float]]]:
    """Return the lines of arms in the unit square."""
    found = re.findall(r'd="([^"]*)" style="stroke:var\(--series[^"]*;fill:none[^"]*"', svg)
    return [[((x - 38) / SIDE, 1 - (y - 38) / SIDE) for x, y in places(path)] for path in found]


@pytest.mark.parametrize("kind", ["roc", "pr"])
def test_every_line_is_the_curve_of_the_report(report: Report, kind: str) -> None:
    figure, grid = made(report, kind), report.diagnostics.grid
    curves = [one for one in report.diagnostics.curves if one.kind == kind]
    assert [one.title for one in figure.multiples] == ["Edema", "Mass"]
    for panel in figure.multiples:
        own = [one for one in curves if one.label == panel.title.lower()]
        drawn = lines_of(panel.svg)
        assert len(drawn) == len(own) == 2
        for line, curve in zip(drawn, own, strict=True):
            x, y = zip(*line, strict=True)
            # At a step up, the upper end counts.
            at = [max(b for a, b in line if abs(a - place) < 1e-9) if place in x else np.interp(place, x, y) for place in grid]
            assert np.abs(np.array(at) - curve.y).max() < 1e-3
    assert lines_of(figure.multiples[0].svg)[0][0] == (0.0, 0.0) or kind == "pr"


def test_marks_are_the_operating_points_and_hollow_for_one_run(report: Report) -> None:
    test_set = report.test_sets[0]
    figure = made(report, "roc")
    discs = [re.findall(r'd="M([\d.]+) ([\d.]+)a4 4', panel.svg) for panel in figure.multiples]
    for panel, ((x, y),) in zip(figure.multiples, discs, strict=True):
        point = next(
            one
            for one in report.diagnostics.operating_points
            if (one.label, one.rule, one.arm) == (panel.title.lower(), "youden", test_set.arms[0].key)
        )
        shares = {one.name: one.estimate or 0 for one in point.shares}
        assert (float(x) + 4 - 38) / SIDE == pytest.approx(1 - shares["specificity"], abs=1e-3)
        assert 1 - (float(y) - 38) / SIDE == pytest.approx(shares["sensitivity"], abs=1e-3)
    assert "thresholds that validation chose (Youden)" in figure.caption
    alone = tuple(replace(one, n_runs=1) for one in report.diagnostics.operating_points)
    one_run = made(replace(report, diagnostics=replace(report.diagnostics, operating_points=alone)), "roc")
    assert one_run.multiples[0].svg.count("fill:var(--paper") == 2 > figure.multiples[0].svg.count("fill:var(--paper")
    without = made(replace(report, diagnostics=replace(report.diagnostics, operating_points=())), "roc")
    assert "Youden" not in without.caption and "a4 4" not in without.multiples[0].svg


def test_reliability_has_a_dot_a_bin_of_enough_cases_with_its_interval(report: Report) -> None:
    figure = made(report, "reliability")
    for panel in figure.multiples:
        own = [one for one in report.diagnostics.calibrations if one.label == panel.title.lower()]
        many = [each for one in own for each in one.reliability_bins if each.count >= FEW]
        assert 0 < len(many) < sum(len(one.reliability_bins) for one in own)
        assert panel.svg.count("h0") == len(many)
        bars = re.findall(r'd="([^"]*)" style="[^"]*opacity:0\.5', panel.svg)
        assert sum(path.count("M") for path in bars) == sum(one.frequency_low is not None for one in many)
        for one in own:
            assert f"{one.ece_equal_width:.2f}" in panel.alt


def test_captions_say_of_what_over_what_and_alt_texts_tell_each_panel(report: Report) -> None:
    for kind in ("roc", "pr", "reliability"):
        figure = made(report, kind)
        assert "(2 runs an arm)" in figure.caption
        assert figure.caption.endswith(".")
        assert all(len(one.alt) > 60 and one.title in one.alt for one in figure.multiples)
        root = ElementTree.fromstring(standalone(figure).split("?>", 1)[1])
        words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
        assert [words.count(name) for name in ("Edema", "Mass", "a", "b")] == [1, 1, 1, 1]
        assert figure == made(report, kind)
    assert "51 false positive rates" in made(report, "roc").caption
    assert "have no interval" in made(report, "pr").caption
    assert "these models and new" in made(report, "reliability").caption


def test_what_would_make_a_page_too_large_is_left_out_and_said(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    test_set = report.test_sets[0]
    sizes = tuple(replace(test_set.sizes[0], key=f"count={n}", title=f"{n} patients") for n in (1, 2, 3, 4, 5))
    curves = tuple(replace(one, size=size.key) for size in sizes for one in report.diagnostics.curves)
    many = replace(
        report, test_sets=(replace(test_set, sizes=sizes),), diagnostics=replace(report.diagnostics, curves=curves, operating_points=())
    )
    assert drawn_sizes(many, many.test_sets[0], "roc") == sizes
    assert not_drawn(many, many.test_sets[0], "roc") == ""
    monkeypatch.setattr(drawings, "MOST_LINES", 3 * 3 * 4)
    assert [one.title for one in drawn_sizes(many, many.test_sets[0], "roc")] == ["1 patients", "3 patients", "5 patients"]
    said = not_drawn(many, many.test_sets[0], "roc")
    assert "2 patients, 4 patients" in said
    assert said in [sentence for block in blocks(many, many.test_sets[0]) for sentence in block.sentences]
    monkeypatch.setattr(drawings, "MOST_LINES", 3 * 2)
    assert [one.title for one in drawn_sizes(many, many.test_sets[0], "roc")] == ["5 patients"]
    last = curve_figure(many, many.test_sets[0], sizes[-1], "roc")
    assert last is not None
    assert len(last.multiples) == 1 and "the first 1 of 2 findings" in last.caption


def test_many_findings_are_folded_and_none_is_lost(report: Report) -> None:
    labels = [f"finding_{index}" for index in range(11)]
    curves = tuple(replace(one, label=name) for name in labels for one in report.diagnostics.curves if one.label == "edema")
    page = html(report := replace(report, diagnostics=replace(report.diagnostics, curves=curves)), sections(report))
    figure = page[page.index('<figure class="multiples" id="roc') :].partition("</figure>")[0]
    assert "3 more findings" in figure
    assert figure.count('class="multiple"') == 11
    assert figure.partition("<details>")[0].count('class="multiple"') == 8


def test_a_test_set_without_scores_has_no_such_figure(report: Report) -> None:
    bare = replace(report, diagnostics=replace(report.diagnostics, curves=(), calibrations=(), grid=()))
    test_set = bare.test_sets[0]
    assert curve_figure(bare, test_set, test_set.sizes[0], "roc") is None
    assert reliability_figure(bare, test_set, test_set.sizes[0]) is None
    assert "multiples" not in [block.key for block in sections(bare)[0].blocks]
