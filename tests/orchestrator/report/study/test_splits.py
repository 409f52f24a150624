"""The variance split of a made study, and the draws that it says are worth adding."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import Scalar
from orchestrator.model import AxisKind
from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import markdown
from orchestrator.report.study.values import VarianceSplit
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made, quickstart

REAL, NONE = "finetune/after=pretrain,images=real", "finetune/after=none"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2, patients=120)
    return build(plan, made.run)


def split(report: Report, arm: str, size: str, baseline: str | None) -> VarianceSplit:
    return next(one for one in report.study.variance_splits if (one.arm, one.size, one.baseline) == (arm, size, baseline))


def test_the_half_width_of_now_is_that_of_the_interval(report: Report) -> None:
    for one in report.differences:
        found = split(report, one.arm, one.size, one.baseline)
        assert found.half_width == pytest.approx(((one.high or 0) - (one.low or 0)) / 2)
    for one in report.cells:
        found = split(report, one.arm, one.size, None)
        assert found.half_width == pytest.approx(((one.high or 0) - (one.low or 0)) / 2)
        assert found.draw + found.interaction >= (one.components["ms_draws"] or 0) - 1e-15
        assert found.limit <= found.forecasts[1].half_width <= found.forecasts[0].half_width <= found.half_width
        assert [each.replicates for each in found.forecasts] == [7, 10, 5]


def test_the_command_asks_for_what_the_declared_differences_need(report: Report) -> None:
    worth = {
        size: max(one.enough for one in report.study.variance_splits if one.contrast and one.size == f"count={size}") for size in (64, 256)
    }
    more = report.study.more_draws
    assert more is not None
    assert more.option == ",".join(f"{size}={count}" for size, count in worth.items() if count > 5)
    assert f"--repeats {more.option}" in markdown(report, sections(report))
    assert sum(line.kind == "forecast" for line in lines(report)) == 5 * len(report.study.variance_splits)


def two_arms(made: Made, fractions: dict[float, int], *, present: bool = True) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("fraction", AxisKind.REPLICATE, tuple(fractions))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(max(fractions.values()))))
    for fraction, draws in fractions.items():
        for after, separation in (("pretrain", 1.5), ("none", 1.0)):
            for draw in range(draws):
                labels: dict[str, Scalar] = {"after": after, "fraction": fraction, "draw": draw, "target": "phantom"}
                made.evaluation("finetune", labels, separation=separation, draw_sd=0.2, present=present or draw > 0)


def test_one_run_with_all_labels_should_be_three(made: Made) -> None:
    two_arms(made, {0.1: 12, 1.0: 1})
    more = build(made.plan(), made.run).study.more_draws
    assert more is not None
    assert more.option.endswith("1=3")
    assert "3 of 1 instead of 1" in more.why


def test_draws_of_random_sizes_are_never_raised(made: Made) -> None:
    """`submit --repeats` refuses them: one more would make every draw anew."""
    made.pool, made.uneven = 10_000, 3
    two_arms(made, {0.1: 4, 1.0: 1})
    more = build(made.plan(), made.run).study.more_draws
    assert more is not None
    assert more.option == "1=3"


def test_what_is_missing_comes_before_what_is_more(made: Made) -> None:
    two_arms(made, {0.1: 4}, present=False)
    report = build(made.plan(), made.run)
    assert report.n_present < report.n_planned
    assert report.study.more_draws is None


def test_one_run_an_arm_has_nothing_to_split(made: Made, tmp_path: Path) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    for after in ("pretrain", "none"):
        made.evaluation("finetune", {"after": after, "target": "phantom"})
    report = build(made.plan(), made.run)
    assert report.study.variance_splits == ()
    assert report.study.more_draws is None
    assert "What to run next" not in markdown(report, sections(report))
