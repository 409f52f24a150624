"""Saved views: what the UI is told to open on. That it does is for the browser tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from jobs.paths import RunPaths
from jobs.spec import Stage
from orchestrator import tracking
from orchestrator.mirror.curves import curve_points
from orchestrator.mirror.views import CURVES, DRAWS, LINES, TAG, headline_metrics, is_ours, saved_views, view_state
from orchestrator.model import Plan, ReportSpec
from tests.orchestrator.mirror.mirrored import client_of
from tests.orchestrator.mirror.played import SWEEP, Player, plan_of
from tests.orchestrator.mirror.test_curves import report_of, write_report


def test_draws_are_shown_by_cell_with_the_columns_of_the_study(plan: Plan) -> None:
    text = saved_views(plan, ())[TAG + DRAWS]
    state = view_state(text)
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "cell"}]
    assert state["selectedColumns"] == [
        "params.`pretrain.lr`",
        "params.`after`",
        "params.`label_fraction`",
        "params.`n_labeled`",
        "params.`draw`",
        "metrics.`test/phantom/auroc_macro`",
    ]
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["test/phantom/auroc_macro"]
    assert "groupsExpanded" not in state
    # The first draw of every cell comes first, so that the first page of a thousand runs has all cells.
    lines = view_state(saved_views(plan, ())[TAG + LINES])
    assert [(one["orderByKey"], one["orderByAsc"]) for one in (state, lines)] == [("params.`draw`", True)] * 2


def test_cells_of_a_large_study_are_folded(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, SWEEP.replace("repeats: [2, 1]", "repeats: [60, 1]"))
    cells = [f"finetune/after={arm}|fraction={fraction}" for arm in ("pretrain", "none") for fraction in ("0.1", "1")]
    folded = view_state(saved_views(plan, ())[TAG + DRAWS])["groupsExpanded"]
    assert folded == {f"tag.cell.{cell}": False for cell in cells}


def test_draws_are_lines_through_the_labels_that_all_of_them_have(plan: Plan) -> None:
    state = view_state(saved_views(plan, ())[TAG + LINES])
    assert state["searchFilter"] == 'tags.picked = "true"'
    (chart,) = state["compareRunCharts"]
    # Replicates are what is compared, and no axis; nor is the rate of a pretraining, which some runs do not have.
    assert chart["selectedParams"] == ["after", "label_fraction"]
    assert chart["selectedMetrics"] == ["test/phantom/auroc_macro"]
    without = replace(plan, jobs=tuple(job for job in plan.jobs if job.stage is not Stage.EVALUATE))
    assert set(saved_views(without, ())) == {TAG + DRAWS}


def test_the_headline_is_the_measure_of_the_report(plan: Plan) -> None:
    for measure, expected in (
        ({"default": "auroc_competition"}, "auroc_competition"),
        ({"phantom": "auroc/edema", "default": "x"}, "auroc/edema"),
        ({"finetune": "loss", "default": "x"}, "loss"),
    ):
        assert headline_metrics(replace(plan, report=ReportSpec(measure=measure))) == [f"test/phantom/{expected}"]


def test_every_arm_is_a_line_of_one_chart(plan: Plan) -> None:
    views = saved_views(plan, curve_points(report_of(sets=("phantom", "other"))))
    assert set(views) == {TAG + CURVES, TAG + DRAWS, TAG + LINES}
    charts = view_state(views[TAG + CURVES])["compareRunCharts"]
    assert [len(chart["selectedMetricKeys"]) for chart in charts] == [2, 6, 2, 6]
    assert charts[0]["selectedMetricKeys"] == ["curve/other/MoCo - real/auroc_macro", "curve/other/no pretraining/auroc_macro"]
    assert len({chart["uuid"] for chart in charts}) == 4


def test_a_view_that_somebody_changed_is_theirs(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs[:1])
    write_report(run, report_of())
    experiment = tracking.sync(plan, run).experiment
    client = client_of(run)
    tags = client.get_experiment(experiment).tags
    assert is_ours(tags[TAG + DRAWS])
    assert is_ours(tags[TAG + CURVES])
    theirs = json.dumps({**json.loads(tags[TAG + DRAWS]), "name": "My draws", "updatedAt": 1_795_237_823_495})
    client.set_experiment_tag(experiment, TAG + DRAWS, theirs)
    client.set_experiment_tag(experiment, TAG + CURVES, "no view at all")
    tracking.sync(plan, run)
    tags = client.get_experiment(experiment).tags
    assert (tags[TAG + DRAWS], tags[TAG + CURVES]) == (theirs, "no view at all")
