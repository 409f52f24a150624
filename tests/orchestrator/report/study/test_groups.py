"""The best of one group against the best of another in a made study: chosen on validation, scored on test."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from jobs.spec import JobSpec
from orchestrator.arms import arms, check_groups
from orchestrator.errors import ReportError
from orchestrator.model import AxisKind, Contrast
from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.render import html, markdown
from orchestrator.report.study.values import GroupDifference
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import LABELS, Made

DRAWS = 5
GROUPS = {"networks": ({"model": "vit"}, {"model": "swin"}), "baseline": ({"model": "cnn"},)}
#: Validation likes vit in three draws and swin in two.
VALUES = {"vit": (0.8, 0.8, 0.8, 0.6, 0.6), "swin": (0.7,) * DRAWS, "cnn": (0.5,) * DRAWS}
LEVELS = {"vit": 1.6, "swin": 1.1, "cnn": 0.9}


def study(
    made: Made,
    values: Mapping[str, tuple[float, ...]] = VALUES,
    *,
    metric: str | None = "val/auroc_macro",
    missing: tuple[str, int] | None = None,
) -> tuple[Report, dict[tuple[str, int], JobSpec]]:
    made.axis("model", AxisKind.COMPARE, tuple(values))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(DRAWS)))
    specs = {
        (model, draw): made.evaluation(
            "finetune",
            {"model": model, "draw": draw, "target": "phantom"},
            separation=LEVELS[model],
            draw_sd=0.2,
            metric=metric,
            value=values[model][draw],
            present=(model, draw) != missing,
        )
        for model in values
        for draw in range(DRAWS)
    }
    return build(made.plan(groups=GROUPS, contrasts=(Contrast(baseline={"model": "cnn"}),)), made.run), specs


def only(report: Report) -> GroupDifference:
    (found,) = report.study.groups
    return found


def macro_auroc(made: Made, spec: JobSpec) -> float:
    table = pq.read_table(made.run.job(spec.job_id).predictions).to_pandas()
    of = [table[table.label == label] for label in LABELS]
    return float(np.mean([roc_auc_score(one.truth, one.score) for one in of]))


def test_each_draw_scores_the_arm_that_validation_chose(made: Made) -> None:
    report, specs = study(made)
    found = only(report)
    chosen = ["vit", "vit", "vit", "swin", "swin"]
    # By name, the baseline comes first.
    assert (found.group, found.other, found.n_arms, found.n_arms_other) == ("baseline", "networks", 1, 2)
    assert [one.arm.rpartition("=")[2] for one in found.choices if one.group == "networks"] == chosen
    wanted = [macro_auroc(made, specs["cnn", draw]) - macro_auroc(made, specs[model, draw]) for draw, model in enumerate(chosen)]
    assert [point.value for point in found.points] == pytest.approx(wanted)
    assert found.estimate == pytest.approx(np.mean(wanted))
    # New draws on this test set: a t interval over the differences, so the choice is inside the spread.
    over_draws = next(one for one in found.estimates if one.estimand == "new_draws_this_test_set")
    assert (over_draws.low, over_draws.high) == pytest.approx(
        stats.t.interval(0.95, DRAWS - 1, loc=np.mean(wanted), scale=stats.sem(wanted))
    )
    assert (found.estimand, found.matching, found.n_replicates) == ("new_draws_new_patients", "matched", DRAWS)


def test_a_group_in_which_one_arm_always_wins_is_that_arm(made: Made) -> None:
    report, _ = study(made, {**VALUES, "vit": (0.9,) * DRAWS})
    found, plain = only(report), next(one for one in report.differences if one.arm == "finetune/model=vit")
    assert found.estimate == pytest.approx(-(plain.estimate or 0))
    assert (found.low, found.high, found.p) == pytest.approx((-(plain.high or 0), -(plain.low or 0), plain.p))


def test_the_test_set_chooses_nothing(made: Made) -> None:
    """Swin is chosen for its validation metric although vit is far better on the test set."""
    report, _ = study(made, {**VALUES, "vit": (0.6,) * DRAWS})
    found, worse = only(report), next(one for one in report.differences if one.arm == "finetune/model=swin")
    assert {one.arm for one in found.choices if one.group == "networks"} == {"finetune/model=swin"}
    assert found.estimate == pytest.approx(-(worse.estimate or 0))


def test_a_draw_in_which_an_arm_is_missing_is_left_out_and_named(made: Made) -> None:
    found = only(study(made, missing=("swin", 1))[0])
    assert found.left_out == ("networks: draw 1", "finetune/model=cnn: draw 1")
    assert found.n_replicates == DRAWS - 1
    assert "missing_runs" in found.status


def test_arms_that_validation_says_nothing_of_are_not_chosen_among(made: Made) -> None:
    report, _ = study(made, metric=None)
    found = only(report)
    assert (found.estimate, found.status) == (None, ("not_estimable",))
    page = markdown(report, sections(report))
    assert "no validation metric picked swin, vit)." in page
    assert "Holm over the 0" not in page


def test_the_page_says_how_the_best_were_chosen(made: Made) -> None:
    report, _ = study(made)
    shown = sections(report)
    for page in (html(report, shown), markdown(report, shown)):
        assert "Best of each group" in page
        assert "vit in 3 of 5, swin in 2 of 5" in page
        assert "the arm with the best val/auroc_macro on validation stands for its group; the test set chose nothing" in page
        assert "the best of baseline scores" in page
    assert not any("groups" in warning for warning in report.warnings)
    row = {line.key: line for line in lines(report)}["phantom/baseline-vs-networks/all/auroc_macro/groups"]
    assert (row.kind, row.n_draws, row.adjustment, row.estimate) == ("groups", DRAWS, "holm", only(report).estimate)


def test_groups_that_cannot_be_compared_are_refused_with_what_is_wrong(made: Made) -> None:
    study(made)
    listed = arms(made.plan())
    with pytest.raises(ReportError, match="the group 'a' stands alone"):
        check_groups(listed, {"a": ({"model": "vit"},)})
    with pytest.raises(ReportError, match="no arm is in the group 'b': none carries model=mlp"):
        check_groups(listed, {"a": ({"model": "vit"},), "b": ({"model": "mlp"},)})
    with pytest.raises(ReportError, match="finetune/model=vit is in two groups, 'a' and 'b'"):
        check_groups(listed, {"a": ({"model": "vit"},), "b": ({"phase": "finetune"},)})
    check_groups(listed, GROUPS)


def test_arms_that_are_validated_on_other_patients_are_not_chosen_among(made: Made) -> None:
    study(made)
    train = next(one for one in made.jobs if one.stage == "train" and one.labels == {"model": "vit", "draw": 0})
    path = made.run.job(train.job_id).result
    content = json.loads(path.read_text(encoding="utf-8"))
    content["data"][0]["splits"]["val"] = {"patients": 50, "images": 60}
    path.write_text(json.dumps(content), encoding="utf-8")
    plan = made.plan(groups=GROUPS, contrasts=())
    report = build(plan, made.run)
    assert "its arms are validated on different data" in only(report).reason


def test_the_benchmarks_form_chooses_and_tests_on_the_test_set_and_stands_beside_ours(made: Made) -> None:
    report, specs = study(made)
    assert report.as_published == ()
    contrasts = (Contrast(baseline={"model": "cnn"}),)
    report = build(made.plan(groups=GROUPS, contrasts=contrasts, as_published=("benchmark",)), made.run)
    (row,) = [one for one in report.as_published if one.groups is not None]
    areas = {model: np.array([area_of(made, specs[model, draw]) for draw in range(DRAWS)]) for model in VALUES}
    best = max(("vit", "swin"), key=lambda model: areas[model].mean())
    assert (row.groups, row.arm, row.baseline) == (("baseline", "networks"), "finetune/model=cnn", f"finetune/model={best}")
    wanted = stats.ttest_ind(areas["cnn"], areas[best])
    assert row.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert row.estimate == pytest.approx(areas["cnn"].mean() - areas[best].mean(), abs=1e-12)
    assert row.claim == ("open" if wanted.pvalue >= 0.05 else "lower")
    ours = only(report)
    assert (row.ours_estimate, row.ours_low, row.ours_high, row.ours_p) == (ours.estimate, ours.low, ours.high, ours.p_adjusted)
    shown = sections(report)
    page = html(report, shown)
    assert f"best of baseline by test score, minus {best} of networks" in page
    assert markdown(report, shown).count("by test score, minus") == 1


def area_of(made: Made, spec: JobSpec) -> float:
    """Return the mean area over findings of one evaluation, by scikit-learn."""
    table = pq.read_table(made.run.job(spec.job_id).predictions).to_pandas()
    return float(np.mean([roc_auc_score(one.truth, one.score) for _, one in table.groupby("label")]))
