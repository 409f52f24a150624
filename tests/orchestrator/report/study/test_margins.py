"""Verdicts against a declared margin, in a made study."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats

from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import html, markdown
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made, quickstart


def report_with(made: Made, margin: float) -> Report:
    plan = quickstart(made.root, patients=100, draws=4)[1]
    return build(replace(plan, report=replace(plan.report, margin=margin)), made.run)


@pytest.fixture
def small(made: Made) -> Report:
    return report_with(made, 0.02)


def test_p_values_are_one_sided_t_tests_adjusted_in_the_family_of_the_contrast(small: Report) -> None:
    for one in small.study.margins:
        every = [each for found in small.differences for each in found.estimates if each.value == one.estimate]
        head = next(each for each in every if each.method == "obuchowski_rockette_hillis")
        df = head.df or math.inf
        worse, better = (stats.t.sf((0.02 + sign * (one.estimate or 0)) / (head.se or 1), df) for sign in (1, -1))
        assert one.p_not_worse == pytest.approx(worse)
        assert one.p_equivalent == pytest.approx(max(worse, better))
    own = sorted((one for one in small.study.margins if one.contrast == "after: none"), key=lambda one: one.p_not_worse or 0)
    assert {one.family for one in own} == {4}
    assert own[0].p_not_worse_adjusted == pytest.approx(min(1.0, 4 * (own[0].p_not_worse or 0)))


def test_an_arm_that_is_far_better_is_not_worse_and_not_equivalent(small: Report) -> None:
    clear = [one for one in small.study.margins if one.contrast == "after: none" and (one.low or 0) > 0.02]
    assert clear
    assert {one.outcome for one in clear} == {"not_worse"}
    assert all((one.p_equivalent or 0) > 0.5 for one in clear)


def test_a_wide_margin_makes_all_equivalent_and_the_page_says_by_which(made: Made) -> None:
    report = report_with(made, 0.5)
    assert {one.outcome for one in report.study.margins} == {"equivalent"}
    shown = sections(report)
    for page in (html(report, shown), markdown(report, shown)):
        assert "Against a margin of 0.5 in macro AUROC" in page
        assert "6 equivalent" in page
        assert "90\u202f% interval" in page
    assert not any("margin" in warning for warning in report.warnings)
    rows = {line.key: line for line in lines(report)}
    row = rows["phantom/pretrain-real-vs-no-pretraining/64/auroc_macro/equivalent"]
    assert (row.kind, row.method, row.n_draws, row.adjustment) == ("equivalence", "tost_0.5", 4, "holm")


def test_without_a_margin_nothing_is_said(made: Made) -> None:
    plan = quickstart(made.root, patients=60, draws=2)[1]
    report = build(plan, made.run)
    assert report.study.margins == ()
    assert "Equivalence" not in markdown(report, sections(report))
