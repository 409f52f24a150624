"""From files to values: what is estimated, what is refused, what is missing, and that order does not matter."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jobs.spec import Stage
from orchestrator.errors import ReportError
from orchestrator.model import AxisKind, Contrast
from orchestrator.report.analysis import build
from orchestrator.report.record import text
from orchestrator.report.values import Cell, Difference, Report
from tests.orchestrator.report.made_run import Made, leave_pair_out, quickstart, shuffled

REAL, NONE = "finetune/after=pretrain,images=real", "finetune/after=none"


def cell(report: Report, arm: str, size: str) -> Cell:
    return next(one for one in report.cells if (one.arm, one.size) == (arm, size))


def gap(report: Report, arm: str, size: str, baseline: str = NONE) -> Difference:
    return next(one for one in report.differences if (one.arm, one.size, one.baseline) == (arm, size, baseline))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Report]:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2)
    return made, build(plan, made.run)


def test_a_cell_is_the_mean_over_draws_of_the_macro_area(study: tuple[Made, Report]) -> None:
    made, report = study
    found = cell(report, REAL, "count=64")
    jobs = [point.jobs[0] for point in found.points]
    areas = []
    for job in jobs:
        import pyarrow.parquet as pq

        table = pq.read_table(made.run.job(job).predictions).to_pandas()
        areas.append(np.mean([roc_auc_score(rows.truth, rows.score) for _, rows in table.groupby("label")]))
    assert found.estimate == pytest.approx(np.mean(areas), abs=1e-12)
    assert [point.value for point in found.points] == pytest.approx(areas, abs=1e-12)
    assert found.estimand == "new_draws_new_patients_given_pretraining"
    assert cell(report, NONE, "count=64").estimand == "new_draws_new_patients"


def test_every_cell_answers_three_questions_twice(study: tuple[Made, Report]) -> None:
    _, report = study
    found = cell(report, NONE, "count=256")
    by_method = {one.method: one for one in found.estimates}
    assert set(by_method) == {
        "influence",
        "t",
        "obuchowski_rockette_hillis",
        "patient_bootstrap",
        "patient_bootstrap_bca",
        "crossed_bootstrap",
    }
    a, b, c = (by_method[name] for name in ("influence", "t", "obuchowski_rockette_hillis"))
    assert (a.estimand, b.estimand) == ("these_models_new_patients", "new_draws_this_test_set")
    assert c.se is not None
    assert a.se is not None
    assert c.se >= a.se
    plain, bent = by_method["patient_bootstrap"], by_method["patient_bootstrap_bca"]
    assert plain.se == pytest.approx(a.se, rel=0.15)
    # Corrected for bias and skewness it lies elsewhere, and is about as wide.
    assert bent.estimand == plain.estimand and bent.low != plain.low
    assert None not in (plain.low, plain.high, bent.low, bent.high)
    assert bent.high - bent.low == pytest.approx(plain.high - plain.low, rel=0.15)  # type: ignore[operator]
    assert (found.low, found.high) == (c.low, c.high)


def test_differences_are_matched_by_draw_and_tell_what_is_true(study: tuple[Made, Report]) -> None:
    _, report = study
    found = gap(report, REAL, "count=64")
    assert found.matching == "matched"
    assert found.n_replicates == 5
    assert found.estimate == pytest.approx((cell(report, REAL, "count=64").estimate or 0) - (cell(report, NONE, "count=64").estimate or 0))
    # Separations 1.45 against 0.7 in noise of variance 0.6^2 + 0.6^2 + 2 * 0.35^2: the true areas are known.
    noise = math.sqrt(2 * (2 * 0.36 + 2 * 0.1225))
    true = _phi(1.45 / noise) - _phi(0.7 / noise)
    assert found.low is not None
    assert found.high is not None
    assert found.low < true < found.high
    assert found.p_adjusted is not None
    assert found.p is not None
    assert found.p <= found.p_adjusted
    assert found.family == 4
    assert {one.adjustment for one in report.label_differences} == {"benjamini_hochberg"}


def _phi(value: float) -> float:
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def test_the_report_is_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path / "a", draws=3, patients=120)
    other, same_plan = quickstart(tmp_path / "b", draws=3, patients=120, shuffle=7)
    assert [one.job_id for one in plan.jobs] == [one.job_id for one in same_plan.jobs]
    first = text(build(plan, made.run))
    assert first == text(build(shuffled(plan, 1), made.run))
    assert first == text(build(plan, other.run))
    assert json.loads(first)["schema"] == 1
    assert "NaN" not in first
    assert "Infinity" not in first


def test_a_missing_draw_is_marked_and_left_out_of_pairs(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, gaps=2, patients=120)
    report = build(plan, made.run)
    scrambled = "finetune/after=pretrain,images=scrambled"
    found = cell(report, scrambled, "count=256")
    assert (found.n_runs, found.n_planned, found.missing) == (3, 5, ("draw 3", "draw 4"))
    assert "missing_runs" in found.status
    pair = gap(report, scrambled, "count=256")
    assert pair.n_replicates == 3
    assert pair.unmatched == (f"{NONE}: draw 3", f"{NONE}: draw 4")
    assert "missing_runs" in pair.status
    assert (report.n_present, report.n_planned) == (38, 40)
    assert sum(not row.present for row in report.ledger) == 2
    assert any("2 of 40 planned evaluations are not there" in warning for warning in report.warnings)


def test_an_arm_without_any_run_still_has_its_cell(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, gaps=5, patients=100)
    report = build(plan, made.run)
    found = cell(report, "finetune/after=pretrain,images=scrambled", "count=256")
    assert found.estimate is None
    assert set(found.status) == {"missing_runs", "not_estimable"}
    silent = [one for one in report.verdicts if one.tone == "silent"]
    assert {one.size for one in silent} == {"count=256"}


def test_nothing_at_all_is_an_error_that_says_what_to_type(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("none",))
    made.evaluation("finetune", {"after": "none", "count": 64, "draw": 0, "target": "phantom"}, present=False)
    with pytest.raises(ReportError, match="none of the 1 evaluations of 'made' has finished yet; type: orchestrate status"):
        build(made.plan(contrasts=()), made.run)


def test_runs_on_other_rows_are_refused_by_name(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for after in ("pretrain", "none"):
        for draw in range(3):
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"})
    plan = made.plan()
    odd = next(job for job in plan.jobs if job.stage is Stage.EVALUATE and job.labels == {"after": "none", "draw": 2, "target": "phantom"})
    made.predict(odd, made.scores(1.0, "x", "y", 0.0), rows=np.arange(400))
    with pytest.raises(ReportError, match=r"after=none,draw=2.*400 units.*cannot be compared"):
        build(plan, made.run)


def test_other_truths_under_the_same_digest_are_refused(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    for after in ("pretrain", "none"):
        made.evaluation("finetune", {"after": after, "target": "phantom"})
    plan = made.plan()
    odd = next(job for job in plan.jobs if job.stage is Stage.EVALUATE and job.labels["after"] == "none")
    made.truth[3, 0] = 1 - made.truth[3, 0]
    made.predict(odd, made.scores(1.0, "x", "y", 0.0))
    with pytest.raises(ReportError, match="different truths or patients"):
        build(plan, made.run)


def test_seeds_on_identical_data_are_not_matched(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("fraction", AxisKind.REPLICATE, (1.0,))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for after, separation in (("pretrain", 1.6), ("none", 0.9)):
        for draw in range(3):
            made.evaluation("finetune", {"after": after, "fraction": 1.0, "draw": draw, "target": "phantom"}, separation=separation)
    report = build(made.plan(), made.run)
    (found,) = report.differences
    assert found.matching == "nested"
    assert found.estimand == "new_seeds_new_patients"
    assert report.cells[0].estimand == "new_seeds_new_patients"
    assert found.points == ()


def test_one_run_an_arm_makes_no_claim(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    for after, separation in (("pretrain", 2.0), ("none", 0.5)):
        made.evaluation("finetune", {"after": after, "target": "phantom"}, separation=separation)
    report = build(made.plan(), made.run)
    (found,) = report.differences
    assert found.matching == "one_run"
    assert found.estimand == "these_models_new_patients"
    assert found.p_adjusted is None
    assert found.low is not None
    assert "one_run" in found.status
    assert report.verdicts[0].tone == "silent"
    assert "one run of either is not a method" in report.verdicts[0].claim
    assert {one.estimand for one in report.cells[0].estimates} == {"these_models_new_patients"}


def test_a_reference_without_replicates_is_subtracted_from_each_draw(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2, 3))
    for draw in range(4):
        made.evaluation("finetune", {"after": "pretrain", "draw": draw, "target": "phantom"}, separation=1.5, draw_sd=0.2)
    made.evaluation("finetune", {"after": "none", "target": "phantom"}, separation=0.8)
    report = build(made.plan(), made.run)
    (found,) = report.differences
    assert (found.matching, found.n_replicates, len(found.points)) == ("fixed_reference", 4, 4)
    reference = next(one.estimate for one in report.cells if one.arm == NONE)
    arm = next(one for one in report.cells if one.arm != NONE)
    assert [point.value for point in found.points] == pytest.approx([point.value - (reference or 0) for point in arm.points])


def test_pretrainings_fewer_than_draws_are_the_replicates(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2, 3))
    for draw in range(4):
        parent = {"seed": draw % 2}
        made.evaluation(
            "finetune",
            {"after": "pretrain", "draw": draw, "target": "phantom"},
            separation=1.5,
            pretraining=parent,
            pretraining_seed=draw % 2,
        )
        made.evaluation("finetune", {"after": "none", "draw": draw, "target": "phantom"}, separation=0.8)
    report = build(made.plan(), made.run)
    arm = next(one for one in report.cells if one.arm != NONE)
    assert (arm.n_runs, arm.n_replicates, arm.n_pretrainings) == (4, 2, 2)
    assert arm.estimand == "new_pretrainings_new_patients"
    (found,) = report.differences
    assert (found.n_replicates, found.matching) == (2, "matched")
    assert found.estimand == "new_pretrainings_new_patients"
    assert all(len(point.jobs) == 4 for point in found.points)


def test_rare_findings_have_a_status_and_leave_the_measure(made: Made) -> None:
    made.truth[:, 0] = 0
    made.truth[:2, 0] = 1  # two images of one patient
    made.truth[:, 1] = 0
    made.truth[[0, 10, 20, 30], 1] = 1  # four patients
    made.truth[:, 2] = 0
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for after in ("pretrain", "none"):
        for draw in range(3):
            made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"})
    report = build(made.plan(), made.run)
    labels = {one.name: one for one in report.test_sets[0].labels}
    assert labels["cardiomegaly"].status == ("not_estimable",)
    assert labels["consolidation"].status == ("few_positives",)
    assert labels["edema"].status == ("not_estimable",)
    assert [one.name for one in report.test_sets[0].labels if one.in_measure] == [
        "consolidation",
        "lung_lesion",
        "pleural_effusion",
        "pneumothorax",
    ]
    assert 0.9 < labels["consolidation"].valid_share < 1
    for one in (*report.label_cells, *report.label_differences):
        if one.label in ("cardiomegaly", "edema"):
            assert one.low is None
            assert "not_estimable" in one.status
        if one.label == "consolidation":
            assert "few_positives" in one.status
    assert next(one for one in report.label_cells if one.label == "edema").estimate is None
    assert any("over 4 of 6 findings" in warning for warning in report.warnings)


def test_a_perfect_run_has_an_interval_with_a_width(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for draw in range(3):
        made.evaluation("finetune", {"after": "pretrain", "draw": draw, "target": "phantom"}, separation=60.0)
        made.evaluation("finetune", {"after": "none", "draw": draw, "target": "phantom"}, separation=1.0)
    report = build(made.plan(), made.run)
    arm = next(one for one in report.cells if one.arm != NONE)
    assert arm.estimate == 1.0
    assert arm.method == "newcombe"
    assert arm.low is not None
    assert 0.8 < arm.low < 1.0
    assert "at_boundary" in arm.status
    (found,) = report.differences
    assert found.method == "crossed_bootstrap"
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.high
    assert found.p is not None


def test_arms_that_rank_alike_are_called_identical(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1))
    jobs = [
        made.evaluation("finetune", {"after": after, "draw": draw, "target": "phantom"})
        for after in ("pretrain", "none")
        for draw in range(2)
    ]
    for job in jobs:
        made.predict(job, made.scores(1.0, "same", str(job.labels["draw"]), 0.1), train_job=None)
    (found,) = build(made.plan(), made.run).differences
    assert found.estimate == 0.0
    assert found.low is None
    assert found.p is None
    assert "identical" in found.status


def test_measures_are_named_by_group_or_finding_and_others_refused(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=100)
    one = build(replace(plan, report=replace(plan.report, measure={"default": "auroc/pleural_effusion"})), made.run)
    assert [label.name for label in one.test_sets[0].labels if label.in_measure] == ["pleural_effusion"]
    assert one.test_sets[0].measure_title == "AUROC, pleural effusion"
    group = build(replace(plan, report=replace(plan.report, measure={"phantom": "auroc_competition"})), made.run)
    assert [label.name for label in group.test_sets[0].labels if label.in_measure] == [
        "cardiomegaly",
        "consolidation",
        "edema",
        "pleural_effusion",
    ]
    with pytest.raises(ReportError, match=r"measure 'f1' is not known; set `report.measure` to one of: auroc_macro, auroc_compet"):
        build(replace(plan, report=replace(plan.report, measure={"default": "f1"})), made.run)
    with pytest.raises(ReportError, match=r"measure 'dice' cannot be made of scores; set `report.measure` to one of: auroc_macro"):
        build(replace(plan, report=replace(plan.report, measure={"default": "dice"})), made.run)


def test_picks_at_the_edge_and_unequal_tuning_are_said(study: tuple[Made, Report]) -> None:
    _, report = study
    assert {arm.title: arm.candidates for arm in report.test_sets[0].arms} == {
        "pretrain · real": 3,
        "pretrain · scrambled": 3,
        "no pretraining": 1,
        "thumbnail": 1,
    }
    assert any("Tuning was unequal" in warning for warning in report.warnings)
    picked = next(row for row in report.ledger if row.arm == REAL)
    assert picked.at_edge == ("lr 0.01",)
    assert (picked.epoch, picked.picked_value, picked.checkpoint) == (7, 0.81, "epoch-7")
    assert any("one pretraining run" in warning for warning in report.warnings)


def test_two_test_sets_are_two_families(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
    for target in ("phantom", "shenzhen"):
        for after in ("pretrain", "none"):
            for draw in range(3):
                made.evaluation(
                    "finetune", {"after": after, "draw": draw, "target": target}, separation=1.5 if after == "pretrain" else 0.8
                )
    report = build(made.plan(), made.run)
    assert [one.key for one in report.test_sets] == ["phantom", "shenzhen"]
    assert [one.family for one in report.differences] == [1, 1]
    assert all(one.p == one.p_adjusted for one in report.differences)


def test_leave_pair_out_is_compared_within_pairs_and_claims_nothing(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path)
    report = build(plan, made.run)
    assert report.verdicts == ()
    assert report.cells == ()
    found = {one.arm: one for one in report.folds}
    one = found["probe/init=imagenet"]
    score = made.scores(2.2, "probe{'init': 'imagenet'}", "", 0.0)[:, 0]
    assert one.estimate == pytest.approx(np.mean([score[i] > score[j] for i in range(7) for j in range(7, 15)]))
    assert (one.assignments, one.exact, one.n_folds) == (6435, True, 56)
    assert (one.n_positive_patients, one.n_negative_patients) == (7, 8)
    assert "few_positives" in one.status
    assert one.chance_low is not None
    assert one.chance_high is not None
    assert one.chance_low < 0.5 < one.chance_high
    assert report.test_sets[0].arms[-1].floor


def test_missing_folds_are_named(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path, gaps=3)
    report = build(plan, made.run)
    assert all(one.missing == ("fold 53", "fold 54", "fold 55") for one in report.folds)
    assert all(one.n_folds == 53 for one in report.folds)


def test_other_cases_in_a_fold_are_refused(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path)
    odd = next(job for job in plan.jobs if job.stage is Stage.EVALUATE and job.labels == {"init": "random", "fold": 4, "target": "xrays"})
    made.predict(odd, made.scores(1.0, "x", "y", 0.0), rows=np.array([6, 14]))
    with pytest.raises(ReportError, match="held out different cases in fold"):
        build(plan, made.run)


def test_a_baseline_that_fits_nobody_is_refused(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=60)
    with pytest.raises(ReportError, match="no arm is"):
        build(replace(plan, report=replace(plan.report, contrasts=(Contrast(baseline={"after": "nothing"}),))), made.run)
