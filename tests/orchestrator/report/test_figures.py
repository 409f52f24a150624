"""Figures: what is drawn is what the report says, small, in the page's colours, the same bytes each time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report import marks
from orchestrator.report.analysis import build
from orchestrator.report.figures.curves import label_efficiency, thinned
from orchestrator.report.figures.drawing import Figure, inked, standalone
from orchestrator.report.figures.forest import MOST_ARMS, forest
from orchestrator.report.figures.heatmap import heatmap
from orchestrator.report.figures.pairs import pairs
from orchestrator.report.figures.svg import Sheet
from orchestrator.report.stats.estimate import Status
from orchestrator.report.values import Report
from orchestrator.report.wording import number, signed
from tests.orchestrator.report.made_run import leave_pair_out, quickstart

SIZE = "count=64"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), gaps=1, patients=120, draw_sd=0.2)
    return build(plan, made.run)


def drawn(report: Report) -> list[Figure]:
    test_set = report.test_sets[0]
    found = [forest(report, test_set, SIZE), heatmap(report, test_set, SIZE), *(figure for _, figure in pairs(report, test_set))]
    return [one for one in found if one is not None]


def texts(svg: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_drawings_are_whole_small_and_alike_each_time(report: Report) -> None:
    figures = drawn(report)
    assert len(figures) == 5
    assert figures == drawn(report)
    for one in figures:
        for svg in (one.wide, one.narrow):
            ElementTree.fromstring(svg)
            assert len(svg) < 16_000
            assert set(re.findall(r"#[0-9a-f]{6}", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", svg))) == set()
        assert "var(" not in standalone(one)
        assert len(one.alt) > 60 and one.caption.endswith(".")
    assert len({one.key for one in figures}) == 5


def test_a_forest_has_a_mark_for_every_estimate(report: Report) -> None:
    figure = forest(report, report.test_sets[0], SIZE)
    assert figure is not None
    wanted = [one for one in (*report.cells, *report.label_cells) if one.size == SIZE and one.estimate is not None]
    for one in wanted:
        assert number(one.estimate) in figure.alt
    arms = len(report.test_sets[0].arms)
    # A mark each, and one an arm in the legend; intervals are lines of their own.
    assert len(re.findall(r'z" style="fill|" style="fill:none', figure.wide)) == len(wanted) + arms
    assert figure.wide.count("stroke-width:1.8") == sum(one.low is not None for one in wanted)


def test_one_run_is_hollow_and_many_arms_are_said(report: Report) -> None:
    alone = replace(report, cells=tuple(replace(one, status=(str(Status.ONE_RUN),)) for one in report.cells))
    figure = forest(alone, report.test_sets[0], SIZE)
    assert figure is not None and "stroke-dasharray:3 2" in figure.wide
    test_set = report.test_sets[0]
    arms = tuple(replace(test_set.arms[0], key=f"arm{index}", title=f"arm {index}") for index in range(MOST_ARMS + 3))
    cells = tuple(replace(one, arm=arm.key) for arm in arms for one in report.label_cells if one.arm == test_set.arms[0].key)
    wide = replace(report, test_sets=(replace(test_set, arms=arms),), label_cells=cells, cells=())
    figure = forest(wide, wide.test_sets[0], SIZE)
    assert figure is not None and f"The first {MOST_ARMS} of {MOST_ARMS + 3} arms" in figure.caption


def test_a_heatmap_marks_what_passes_and_nothing_else(report: Report) -> None:
    figure = heatmap(report, report.test_sets[0], SIZE)
    assert figure is not None
    found = [one for one in (*report.differences, *report.label_differences) if one.size == SIZE]
    passed = sum(marks.passes(one, report.confidence) for one in found)
    assert 0 < passed < len(found)
    assert figure.wide.count("l-7 -7z") == passed
    assert [text for text in texts(figure.wide) if re.match(r"[+−]\d", text)].count(signed(found[0].estimate)) >= 1
    strict = heatmap(replace(report, confidence=1 - 1e-9), report.test_sets[0], SIZE)
    assert strict is not None and strict.wide.count("l-7 -7z") <= passed


def test_pairs_join_matched_replicates_and_leave_single_runs_out(report: Report) -> None:
    made = dict(pairs(report, report.test_sets[0]))
    assert list(made) == [
        "pretrain · real minus no pretraining",
        "pretrain · scrambled minus no pretraining",
        "pretrain · real minus scrambled",
    ]
    figure = made["pretrain · scrambled minus no pretraining"]
    joined = [path.count("L") for path in re.findall(r'd="(M[^"]*)" style="stroke:[^"]*opacity:0\.5', figure.wide)]
    assert joined == [5, 4], "a replicate without a partner is a dot without a line"
    first = report.differences[0]
    assert signed(first.estimate) in texts(made["pretrain · real minus no pretraining"].wide)
    alone = replace(report, differences=(replace(first, status=(str(Status.ONE_RUN),)),))
    assert dict(pairs(alone, report.test_sets[0])) == {}


def test_without_contrasts_or_findings_there_is_no_figure(report: Report, tmp_path: Path) -> None:
    bare = replace(report, differences=(), label_differences=())
    assert heatmap(bare, report.test_sets[0], SIZE) is None
    made, plan = leave_pair_out(tmp_path)
    held = build(plan, made.run)
    assert forest(held, held.test_sets[0], "all") is None


def test_many_runs_are_thinned_with_their_ends_kept(report: Report) -> None:
    values = [index / 1000 for index in range(1000)]
    kept = thinned(values)
    assert (len(kept), kept[0], kept[-1]) == (60, 0.0, 0.999)
    assert thinned(values[:7]) == values[:7]
    crowd = tuple(replace(one, points=one.points * 30) for one in report.cells)
    many, few = (label_efficiency(one, report.test_sets[0]) for one in (replace(report, cells=crowd), report))
    assert many is not None and few is not None
    assert len(many.wide) < 6 * len(few.wide)


def places(path: str) -> list[tuple[float, float]]:
    """Walk a path of relative steps."""
    x, y = 0.0, 0.0
    found: list[tuple[float, float]] = []
    for kind, numbers in re.findall(r"([Mlhv])([^Mlhv]*)", path):
        given = [float(one) for one in re.findall(r"-?[\d.]+", numbers)]
        dx, dy = (given[0], 0.0) if kind == "h" else (0.0, given[0]) if kind == "v" else (given[0], given[1])
        x, y = (dx, dy) if kind == "M" else (x + dx, y + dy)
        found.append((round(x, 1), round(y, 1)))
    return found


def test_a_path_goes_through_every_point_and_writes_none_that_lies_straight_between() -> None:
    points = [(0.0, 10.0), (0.0, 5.0), (0.0, 2.0), (3.04, 2.0), (6.0, 2.0), (9.0, 1.0), (12.0, 0.0), (12.0, 0.0), (3.0, 0.0), (5.0, 0.0)]
    sheet = Sheet(width=20, height=20)
    sheet.curve(points, "#1c1f24")
    path = re.findall(r' d="([^"]*)"', sheet.parts[0])[0]
    assert places(path) == [(0.0, 10.0), (0.0, 2.0), (6.0, 2.0), (12.0, 0.0), (3.0, 0.0), (5.0, 0.0)]
    # Steps are rounded from where they are and not from the last, so that the end of many is where it belongs.
    sheet.curve([(index / 7, (index % 2) / 3) for index in range(200)], "#1c1f24")
    assert places(re.findall(r' d="([^"]*)"', sheet.parts[1])[0])[-1] == (round(199 / 7, 1), round(1 / 3, 1))


def test_a_page_shares_styles_and_loses_none(report: Report) -> None:
    figures = drawn(report)
    every = [svg for one in figures for svg in one.on_page()]
    pages, css = inked(every)
    rules = dict(re.findall(r"\.(q\d+) \{ ([^}]*) \}", css))
    for svg in every:
        back = re.sub(r'class="(q\d+)"', lambda found: f'style="{rules[found[1]]}"', pages[svg])
        plain = re.sub(r"var\((--[\w-]+), #[0-9a-f]{6}\)", r"var(\1)", svg)
        assert back.removeprefix("<svg") in plain.replace(' xmlns="http://www.w3.org/2000/svg"', "").replace(
            ' font-family="DejaVu Sans, sans-serif"', ""
        )
        assert len(pages[svg]) < 0.75 * len(svg)
