"""All pairs of a made study: the pairs, their differences, and an adjustment between the raw p values and Bonferroni's."""

from __future__ import annotations

import pytest

from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.render import markdown
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made, quickstart

ARMS = ("finetune/after=pretrain,images=real", "finetune/after=pretrain,images=scrambled", "finetune/after=none")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2, patients=100, gaps=1)
    return build(plan, made.run)


def test_every_two_arms_but_the_floor_are_compared_as_declared_ones_are(report: Report) -> None:
    found = {(one.arm, one.baseline, one.size): one for one in report.study.pairs}
    wanted = {(ARMS[i], ARMS[j], f"count={size}") for size in (64, 256) for i, j in ((0, 1), (0, 2), (1, 2))}
    assert set(found) == wanted
    for one in report.differences:
        same = found[one.arm, one.baseline, one.size]
        assert (same.estimate, same.low, same.high, same.p) == (one.estimate, one.low, one.high, one.p)


def test_the_adjustment_lies_between_raw_and_bonferroni(report: Report) -> None:
    pairs = report.study.pairs
    assert {one.family for one in pairs} == {6}
    for one in pairs:
        assert (one.p or 0) <= (one.p_adjusted or 0) <= min(1.0, 6 * (one.p or 0) + 0.005)
    assert sum((one.p_adjusted or 0) > (one.p or 0) for one in pairs) >= 5


def test_pairs_are_shown_by_number_of_labels(report: Report) -> None:
    page = markdown(report, sections(report))
    assert "### All pairs of arms" in page
    assert "adjusted by max-t over all 6 pairs" in page


def test_two_arms_have_no_other_pair(made: Made) -> None:
    from orchestrator.model import AxisKind

    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for after in ("pretrain", "none"):
        for draw in range(3):
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"})
    assert build(made.plan(), made.run).study.pairs == ()
