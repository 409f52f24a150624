"""Views over findings and runs together: their values against scipy, their intervals against a loop, and what has none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orchestrator.model import AxisKind, Contrast
from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import html
from orchestrator.report.stats.bootstrap import drawn_again, resample
from orchestrator.report.stats.ranking import auroc
from orchestrator.report.values import Report, View
from orchestrator.report.view_tables import view_block
from tests.orchestrator.report.made_run import Made, quickstart

REAL, NONE = "finetune/after=pretrain,images=real", "finetune/after=none"
MIDDLE, GAP, WINS = "interquartile_mean", "interquartile_mean_difference", "probability_of_improvement"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2, patients=100)
    return build(plan, made.run)


def view_of(report: Report, name: str, arm: str = REAL, baseline: str | None = NONE, size: str = "count=64") -> View:
    baseline = None if name == MIDDLE else baseline
    (found,) = (one for one in report.views if (one.name, one.arm, one.baseline, one.size) == (name, arm, baseline, size))
    return found


def areas(report: Report, arm: str) -> np.ndarray:
    cells = [one for one in report.label_cells if (one.arm, one.size) == (arm, "count=64")]
    return np.array([[point.value for point in one.points] for one in cells])


def test_views_are_over_findings_and_draws_together(report: Report) -> None:
    middle, gap, wins = (view_of(report, name) for name in (MIDDLE, GAP, WINS))
    a, b = areas(report, REAL), areas(report, NONE)
    assert middle.value == pytest.approx(stats.trim_mean(a.ravel(), 0.25), abs=1e-14)
    assert gap.value == pytest.approx(middle.value - stats.trim_mean(b.ravel(), 0.25), abs=1e-14)
    assert wins.value == pytest.approx(np.mean([stats.mannwhitneyu(x, y).statistic / 25 for x, y in zip(a, b, strict=True)]), abs=1e-12)
    assert (middle.n_replicates, middle.n_findings) == (5, 6)
    assert {one.estimand for one in (gap, wins)} == {"new_draws_new_patients_given_pretraining"}
    assert {one.method for one in (middle, gap, wins)} == {"crossed_bootstrap"}
    assert gap.matching == "matched"


def test_intervals_are_those_of_a_loop_over_resampled_patients_and_draws(tmp_path: Path) -> None:
    """Every area of every resample by counting cases, the same draws in both arms, and percentiles of what comes out."""
    made = Made(tmp_path, patients=60, labels=("edema", "effusion"), prevalence=(0.4, 0.5))
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    specs = [
        made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"}, separation=level, draw_sd=0.3)
        for after, level in (("pretrain", 1.3), ("none", 0.9))
        for draw in range(3)
    ]
    plan = made.plan(contrasts=(Contrast(baseline={"after": "none"}),), resamples=120)
    built = build(plan, made.run)
    counts = resample(60, 120)
    matrix, taken = counts.matrix(), drawn_again(3, 120, counts)
    score = {(one.labels["after"], one.labels["draw"]): made_scores(made, one.job_id) for one in specs}
    unit = np.repeat(np.arange(60), 2)
    values: dict[str, list[float]] = {MIDDLE: [], GAP: [], WINS: []}
    for at in range(120):
        weight = matrix[unit, at]
        area = {
            after: np.array([[auroc(made.truth[:, k], score[after, draw][:, k], weight) for k in range(2)] for draw in range(3)], float)
            for after in ("pretrain", "none")
        }

        def middle(rows: np.ndarray) -> float:
            return float(stats.trim_mean(rows.ravel(), 0.25))

        def wins(a: np.ndarray, b: np.ndarray) -> float:
            return float(np.mean([(x > y) + 0.5 * (x == y) for k in range(2) for x in a[:, k] for y in b[:, k]]))

        a, b, own = area["pretrain"], area["none"], taken[:, at]
        for name, fixed, moved in (
            (MIDDLE, middle(a), middle(a[own])),
            (GAP, middle(a) - middle(b), middle(a[own]) - middle(b[own])),
            (WINS, wins(a, b), wins(a[own], b[own])),
        ):
            values[name].append(fixed + math.sqrt(3 / 2) * (moved - fixed))
    for name, found in values.items():
        one = view_of(built, name, "finetune/after=pretrain", "finetune/after=none", "all")
        low, high = np.quantile(found, [0.025, 0.975])
        low, high = (low, high) if name == GAP else (max(low, 0.0), min(high, 1.0))
        assert (one.low, one.high) == pytest.approx((low, high), abs=1e-9)


def made_scores(made: Made, job: str) -> np.ndarray:
    import pyarrow.parquet as pq

    column = pq.read_table(made.run.job(job).predictions)["score"].to_numpy()
    return column.reshape(len(made.labels), -1).T


def test_one_run_a_side_has_the_interval_of_its_patients(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    for after, level in (("pretrain", 1.2), ("none", 1.0)):
        made.evaluation("finetune", {"after": after, "target": "phantom"}, separation=level)
    built = build(made.plan(), made.run)
    assert {one.name for one in built.views} == {MIDDLE, GAP, WINS}
    assert {one.estimand for one in built.views} == {"these_models_new_patients"}
    assert all("one_run" in one.status for one in built.views)
    assert all(one.method in ("patient_bootstrap", "none") for one in built.views)


def test_an_arm_that_always_wins_has_no_interval_of_no_width(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1))
    for after, level in (("pretrain", 6.0), ("none", -6.0)):
        for draw in range(2):
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"}, separation=level)
    built = build(made.plan(), made.run)
    one = view_of(built, WINS, "finetune/after=pretrain", "finetune/after=none", "all")
    assert (one.value, one.low, one.high, one.method) == (1.0, None, None, "none")
    assert "not_estimable" in one.status


def test_what_improves_is_lower_where_the_measure_is_an_error(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for after, level in (("pretrain", 1.2), ("none", 0.9)):
        for draw in range(3):
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"}, separation=level, draw_sd=0.4)
    built = build(made.plan(measure={"default": "brier_macro"}), made.run)
    a, b = ([[point.value for point in one.points] for one in built.label_cells if one.arm.endswith(arm)] for arm in ("pretrain", "none"))
    expected = np.mean([stats.mannwhitneyu(y, x).statistic / 9 for x, y in zip(a, b, strict=True)])
    assert view_of(built, WINS, "finetune/after=pretrain", "finetune/after=none", "all").value == pytest.approx(expected, abs=1e-12)


def test_page_and_rows_have_them(report: Report) -> None:
    block = view_block(report, report.test_sets[0])
    assert block is not None
    assert [len(table.rows) for table in block.tables] == [4, len({(one.arm, one.baseline, one.size) for one in report.differences})]
    assert "Over findings and runs together" in html(report, sections(report))
    rows = {line.key: line for line in lines(report)}
    one = view_of(report, WINS)
    row = next(rows[key] for key in rows if key.endswith(f"64/auroc_macro/{WINS}") and rows[key].arm == REAL and rows[key].baseline == NONE)
    assert (row.estimate, row.low, row.high, row.B, row.method) == (one.value, one.low, one.high, 400, "crossed_bootstrap")
