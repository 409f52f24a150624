"""Tests over runs alone against scipy on the runs' own values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.model import AxisKind
from orchestrator.report.alone_tables import runs_alone
from orchestrator.report.analysis import build
from orchestrator.report.values import ReplicateTest, Report
from tests.orchestrator.report.made_run import Made, quickstart

REAL, NONE = "finetune/after=pretrain,images=real", "finetune/after=none"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2, patients=100)
    return build(plan, made.run)


def of_pair(report: Report, arm: str, baseline: str, size: str) -> dict[str, ReplicateTest]:
    return {one.method: one for one in report.replicate_tests if (one.arm, one.baseline, one.size) == (arm, baseline, size)}


def test_matched_draws_are_tested_within_pairs(report: Report) -> None:
    found = of_pair(report, REAL, NONE, "count=64")
    difference = next(one for one in report.differences if (one.arm, one.baseline, one.size) == (REAL, NONE, "count=64"))
    gap = np.array([point.value for point in difference.points])
    assert set(found) == {"sign_flip", "wilcoxon", "paired_t"}
    assert found["paired_t"].p == pytest.approx(stats.ttest_1samp(gap, 0).pvalue, rel=1e-10)
    assert found["wilcoxon"].p == pytest.approx(stats.wilcoxon(gap, method="exact").pvalue, rel=1e-12)
    assert found["sign_flip"].smallest_p == 2 / 2**5
    assert found["sign_flip"].p is not None
    assert found["sign_flip"].p >= 0.0625


def test_arms_that_are_not_matched_are_tested_between(tmp_path: Path) -> None:
    made = Made(tmp_path, patients=80)
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("seed", AxisKind.REPLICATE, (0, 1, 2))
    for after, separation in (("pretrain", 1.5), ("none", 0.8)):
        for seed in range(3):
            made.evaluation("finetune", {"after": after, "seed": seed, "target": "phantom"}, separation=separation)
    built = build(made.plan(), made.run)
    found = {one.method: one for one in built.replicate_tests}
    a, b = ([point.value for point in cell.points] for cell in built.cells)
    assert set(found) == {"permutation", "welch_t"}
    assert found["welch_t"].p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-10)
    assert found["permutation"].smallest_p == pytest.approx(0.1)


def test_one_run_a_side_has_no_row(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    for after in ("pretrain", "none"):
        made.evaluation("finetune", {"after": after, "target": "phantom"})
    built = build(made.plan(), made.run)
    assert built.replicate_tests == ()
    assert runs_alone(built, built.test_sets[0]) is None


def test_the_table_says_how_small_a_p_could_have_been(report: Report) -> None:
    table = runs_alone(report, report.test_sets[0])
    assert table is not None
    assert len(table.rows) == len(report.differences)
    assert "at least 0.062" in table.rows[0].entries[2].below
    assert "hold the test set fixed" in table.note
