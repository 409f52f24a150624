"""Whole curves of a made study, against the same numbers put together by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from jobs.spec import Scalar, Stage
from orchestrator.model import AxisKind
from orchestrator.report.analysis import build
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.record import parse, rounded, text
from orchestrator.report.render import html, markdown
from orchestrator.report.study.curve_tables import times, worth_interval, worth_text
from orchestrator.report.study.values import CurveDifference, Equivalence
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import Made, quickstart

REAL, SCRAMBLED, NONE = "finetune/after=pretrain,images=real", "finetune/after=pretrain,images=scrambled", "finetune/after=none"


def curve(report: Report, arm: str, kind: str, baseline: str = NONE) -> CurveDifference:
    return next(one for one in report.study.curve_differences if (one.arm, one.kind, one.baseline) == (arm, kind, baseline))


def worth(report: Report, arm: str, size: str, baseline: str = NONE) -> Equivalence:
    return next(one for one in report.study.equivalences if (one.arm, one.size, one.baseline) == (arm, size, baseline))


def areas(made: Made, after: str, size: tuple[str, float], images: str | None = None) -> np.ndarray:
    """Return the macro areas of an arm's runs with one number of labels, by draw, as sklearn has them."""
    found: dict[int, float] = {}
    for job in made.jobs:
        labels = job.labels
        if job.stage is Stage.EVALUATE and (labels["after"], labels.get(size[0]), labels.get("images")) == (after, size[1], images):
            path = made.run.job(job.job_id).predictions
            if path.exists():
                table = pq.read_table(path).to_pandas()
                found[int(labels["draw"] or 0)] = float(
                    np.mean([roc_auc_score(rows.truth, rows.score) for _, rows in table.groupby("label")])
                )
    return np.array([found[draw] for draw in sorted(found)])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, Report]:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), draw_sd=0.2, gaps=1, patients=120)
    return made, build(plan, made.run)


def test_area_and_trend_are_means_over_draws_of_what_each_draws_curves_say(study: tuple[Made, Report]) -> None:
    made, report = study
    gains = [areas(made, "pretrain", ("count", n), "real") - areas(made, "none", ("count", n)) for n in (64, 256)]
    area, trend = curve(report, REAL, "area_between"), curve(report, REAL, "trend")
    assert [point.value for point in area.points] == pytest.approx((gains[0] + gains[1]) / 2)
    assert area.estimate == pytest.approx(((gains[0] + gains[1]) / 2).mean())
    # 64 to 256 is two doublings.
    assert [point.value for point in trend.points] == pytest.approx((gains[1] - gains[0]) / 2)
    assert (area.matching, area.n_chains, area.sizes) == ("matched", 5, ("count=64", "count=256"))
    assert area.estimand == "new_draws_new_patients_given_pretraining"
    on_these = next(one for one in trend.estimates if one.method == "t")
    assert on_these.p == pytest.approx(stats.ttest_1samp((gains[1] - gains[0]) / 2, 0).pvalue)


def test_a_draw_with_a_gap_is_not_followed_and_is_named(study: tuple[Made, Report]) -> None:
    made, report = study
    found = curve(report, SCRAMBLED, "area_between")
    assert (found.n_chains, found.incomplete) == (4, (f"{SCRAMBLED}: draw 4",))
    assert "missing_runs" in found.status
    gains = [areas(made, "pretrain", ("count", n), "scrambled")[:4] - areas(made, "none", ("count", n))[:4] for n in (64, 256)]
    assert found.estimate == pytest.approx(((gains[0] + gains[1]) / 2).mean())
    shown = sections(report)
    for page in (html(report, shown), markdown(report, shown)):
        assert "Not followed through all sizes, and left out here: pretrain · scrambled: draw 4." in page


def test_areas_of_a_contrast_are_one_family_and_trends_another(study: tuple[Made, Report]) -> None:
    _, report = study
    for kind in ("area_between", "trend"):
        own = [one for one in report.study.curve_differences if one.kind == kind and one.contrast == "after: none"]
        assert [one.family for one in own] == [2, 2]
        smaller, larger = sorted(own, key=lambda one: one.p or 0)
        assert smaller.p_adjusted == pytest.approx(min(1.0, 2 * (smaller.p or 0)))
        assert larger.p_adjusted == pytest.approx(max(smaller.p_adjusted or 0, larger.p or 0))
        lone = curve(report, REAL, kind, SCRAMBLED)
        assert (lone.family, lone.p_adjusted) == (1, lone.p)


def test_labels_that_are_worth_as_much_are_read_off_the_mean_curve(study: tuple[Made, Report]) -> None:
    made, report = study
    base = [areas(made, "pretrain", ("count", n), "scrambled")[:4].mean() for n in (64, 256)]
    level = areas(made, "pretrain", ("count", 64), "real")[:4].mean()
    found = worth(report, REAL, "count=64", SCRAMBLED)
    assert base[0] < level < base[1]
    assert found.factor == pytest.approx(4 ** ((level - base[0]) / (base[1] - base[0])))
    assert (found.beyond, found.lowest, found.highest) == ("", 1.0, 4.0)
    assert found.low is not None
    assert found.low < found.factor
    assert len(found.points) == 4
    never = worth(report, REAL, "count=256")
    assert (never.factor, never.beyond, never.lowest, never.highest) == (None, "above", 0.25, 1.0)
    assert worth_text(never) == ">\u00a01.0×"


def grid(made: Made, sizes: dict[float, tuple[int, float, float]]) -> None:
    """Add two arms: size -> (draws, separation of the pretrained arm, separation of the other)."""
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("fraction", AxisKind.REPLICATE, tuple(sizes))
    made.axis("draw", AxisKind.REPLICATE, tuple(range(max(draws for draws, _, _ in sizes.values()))))
    for size, (draws, *separations) in sizes.items():
        for after, separation in zip(("pretrain", "none"), separations, strict=True):
            for draw in range(draws):
                labels: dict[str, Scalar] = {"after": after, "fraction": size, "draw": draw, "target": "phantom"}
                made.evaluation("finetune", labels, separation=separation)


def test_everything_with_one_run_is_left_out_and_said(made: Made) -> None:
    grid(made, {0.01: (4, 1.2, 0.7), 0.1: (4, 1.5, 1.1), 1.0: (1, 1.8, 1.7)})
    report = build(made.plan(), made.run)
    found = curve(report, "finetune/after=pretrain", "trend")
    assert found.sizes == ("fraction=0.01", "fraction=0.1")
    assert found.left_out == ("100\u202f% of the labels: one run",)
    assert found.n_chains == 4
    assert found.incomplete == ()
    assert "Left out of whole curves: 100\u202f% of the labels: one run." in markdown(report, sections(report))
    # Over a tenfold the mean difference weighs both sizes alike, whatever the unit.
    gains = [areas(made, "pretrain", ("fraction", n)) - areas(made, "none", ("fraction", n)) for n in (0.01, 0.1)]
    assert curve(report, "finetune/after=pretrain", "area_between").estimate == pytest.approx(np.mean(gains))
    assert found.estimate == pytest.approx((gains[1] - gains[0]).mean() / math.log2(10))


def test_fewer_draws_of_all_labels_are_followed_as_far_as_they_go(made: Made) -> None:
    grid(made, {0.1: (4, 1.2, 0.7), 1.0: (3, 1.5, 1.1)})
    found = curve(build(made.plan(), made.run), "finetune/after=pretrain", "area_between")
    assert (found.n_chains, found.sizes, found.matching) == (3, ("fraction=0.1", "fraction=1"), "matched")
    assert found.incomplete == ("finetune/after=pretrain: draw 3", "finetune/after=none: draw 3")
    assert "missing_runs" not in found.status, "nothing that was planned is missing"


def test_one_chain_says_nothing_and_one_size_is_no_curve(made: Made, tmp_path: Path) -> None:
    grid(made, {0.01: (2, 1.2, 0.7), 0.1: (1, 1.5, 1.1)})
    report = build(made.plan(), made.run)
    assert {(one.matching, one.estimate, one.status) for one in report.study.curve_differences} == {("none", None, ("not_estimable",))}
    assert report.study.equivalences == ()
    assert "fewer than two" in markdown(report, sections(report))
    other = Made(tmp_path / "other")
    grid(other, {0.1: (2, 1.2, 0.7)})
    assert build(other.plan(), other.run).study.curve_differences == ()


def test_pretrainings_fewer_than_draws_are_the_chains(made: Made) -> None:
    made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
    made.axis("count", AxisKind.REPLICATE, (64, 256))
    made.axis("draw", AxisKind.REPLICATE, (0, 1, 2, 3))
    for count, (one, other) in {64: (1.5, 0.8), 256: (1.8, 1.4)}.items():
        for draw in range(4):
            labels: dict[str, Scalar] = {"count": count, "draw": draw, "target": "phantom"}
            made.evaluation(
                "finetune",
                {"after": "pretrain", **labels},
                separation=one,
                pretraining={"seed": draw % 2},
                pretraining_seed=draw % 2,
            )
            made.evaluation("finetune", {"after": "none", **labels}, separation=other)
    found = curve(build(made.plan(), made.run), "finetune/after=pretrain", "area_between")
    assert (found.n_chains, found.matching) == (2, "matched")
    assert found.estimand == "new_pretrainings_new_patients"
    assert [point.replicate for point in found.points] == ["pretraining 0", "pretraining 1"]


def test_a_perfect_run_leaves_no_interval_of_a_factor(made: Made) -> None:
    grid(made, {0.1: (3, 60.0, 0.7), 0.5: (3, 60.0, 1.1)})
    report = build(made.plan(), made.run)
    assert {(one.method, one.low, one.high) for one in report.study.equivalences} == {("none", None, None)}
    assert all("at_boundary" in one.status for one in (*report.study.equivalences, *report.study.curve_differences))
    assert worth_interval(report.study.equivalences[0]) == ""


def test_factors_in_words() -> None:
    assert [times(value) for value in (None, 0.25, 1.0, 3.16, 12.3)] == ["–", "0.25×", "1.0×", "3.2×", "12×"]


def test_every_number_of_whole_curves_is_a_row_of_the_csv(study: tuple[Made, Report]) -> None:
    _, report = study
    found = {line.key: line for line in lines(report)}
    area = curve(report, REAL, "area_between")
    row = found["phantom/pretrain-real-vs-no-pretraining/area_between/auroc_macro"]
    assert (row.estimate, row.low, row.high, row.p_adjusted, row.kind) == (
        area.estimate,
        area.low,
        area.high,
        area.p_adjusted,
        "area_between",
    )
    assert row.se is not None
    never = found["phantom/pretrain-real-vs-no-pretraining/256/auroc_macro/labels"]
    assert (never.estimate, never.status, never.kind) == (None, "beyond_above", "label_equivalence")
    assert parse(text(report)).study.equivalences[0].points == tuple(
        replace(point, value=point.value and rounded(point.value)) for point in report.study.equivalences[0].points
    )


def test_sizes_with_as_many_labels_are_one(made: Made) -> None:
    grid(made, {0.1: (3, 1.2, 0.7), 0.100001: (3, 1.2, 0.7), 0.5: (3, 1.5, 1.1)})
    found = curve(build(made.plan(), made.run), "finetune/after=pretrain", "trend")
    assert found.sizes == ("fraction=0.1", "fraction=0.5")
    assert found.left_out == ("10.0001\u202f% of the labels: as many labels as 10\u202f% of the labels",)
