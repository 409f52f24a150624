"""Operating points, calibration and curves of whole reports: thresholds from validation alone, numbers that others get too."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.parquet import read_table
from sklearn.metrics import accuracy_score, brier_score_loss, confusion_matrix, f1_score

from orchestrator.report.analysis import analyse, build
from orchestrator.report.diagnostics.lines import diagnostic_rows
from orchestrator.report.diagnostics.points import MEAN
from orchestrator.report.diagnostics.values import Calibration, Diagnostics, OperatingPoint
from orchestrator.report.files.inputs import Asked, inputs_of_files
from orchestrator.report.layout import sections
from orchestrator.report.record import parse, text
from orchestrator.report.render import html, markdown
from orchestrator.report.stats.operating import F1, F1_ON_TEST
from orchestrator.report.values import Report
from orchestrator.report.wording import number
from tests.orchestrator.report.files.made_files import having, joined, scores, write
from tests.orchestrator.report.made_run import quickstart
from tests.orchestrator.report.test_measures import segmented


def split(separation: float, *, seed: int, cases: int = 200) -> dict[str, Any]:
    """Make a run with as many validation rows, of other patients, as test rows."""
    one = scores(separation, seed=seed, cases=2 * cases, images_a_patient=2)
    probability = 1 / (1 + np.exp(1 - one["score"]))
    return having(one, score=probability, split=np.where(np.arange(2 * cases) < cases, "val", "test"))


def report_of(path: Path, **asked: Any) -> Report:
    return analyse(inputs_of_files([path], Asked(**{"resamples": 200, **asked})))


def found(report: Report, rule: str = "youden") -> OperatingPoint:
    return next(one for one in report.diagnostics.operating_points if one.rule == rule)


def test_thresholds_are_from_validation_and_calls_from_test(tmp_path: Path) -> None:
    run = split(1.8, seed=1)
    report = report_of(write(tmp_path / "x.csv", run))
    val, test = (run["split"] == name for name in ("val", "test"))
    tried = {
        limit: np.mean(run["score"][val & (run["truth"] == 1)] >= limit) + np.mean(run["score"][val & (run["truth"] == 0)] < limit)
        for limit in sorted(set(run["score"][val]))
    }
    point = found(report)
    assert point.threshold == max(tried, key=lambda limit: (round(tried[limit], 12), -limit))
    assert (point.source, point.n_runs) == ("validation", 1)
    assert point.n_validation_positive == run["truth"][val].sum()
    tn, fp, fn, tp = confusion_matrix(run["truth"][test], run["score"][test] >= point.threshold).ravel()
    expected = {"sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp), "ppv": tp / (tp + fp), "npv": tn / (tn + fn)}
    assert {one.name: one.estimate for one in point.shares} == pytest.approx(expected)
    for one in point.shares:
        assert one.low is not None
        assert one.high is not None
        assert one.low < (one.estimate or 0) < one.high
        assert one.n_effective <= one.n
    assert {one.rule for one in report.diagnostics.operating_points} == {"youden", "sensitivity_90", "specificity_90", "f1"}


def test_f1_and_accuracy_are_at_the_threshold_that_validation_gave_f1(tmp_path: Path) -> None:
    run = split(1.8, seed=1)
    val, test = (run["split"] == name for name in ("val", "test"))
    point = found(report_of(write(tmp_path / "x.csv", run)), F1)
    tried = {limit: f1_score(run["truth"][val], run["score"][val] >= limit) for limit in sorted(set(run["score"][val]))}
    assert point.threshold == max(tried, key=lambda limit: (round(tried[limit], 12), -limit))
    called = run["score"][test] >= point.threshold
    assert {one.name: one.estimate for one in point.shares} == pytest.approx(
        {"accuracy": accuracy_score(run["truth"][test], called), "f1": f1_score(run["truth"][test], called)}
    )
    assert point.source == "validation" and "chosen_on_test" not in point.status


def test_of_several_findings_there_is_a_mean_and_what_is_missing_is_named(tmp_path: Path) -> None:
    names = ("edema", "effusion", "mass", "nodule")
    parts = {name: having(split(1.0 + at, seed=at), label=name) for at, name in enumerate(names)}
    # Validation has no case without a mass, and the test set nobody with a nodule.
    parts["mass"] = having(parts["mass"], truth=np.where(parts["mass"]["split"] == "val", 1, parts["mass"]["truth"]))
    parts["nodule"] = having(parts["nodule"], truth=np.where(parts["nodule"]["split"] == "test", 0, parts["nodule"]["truth"]))
    report = report_of(write(tmp_path / "x.csv", joined(*parts.values())))
    points = {one.label: {share.name: share for share in one.shares} for one in report.diagnostics.operating_points if one.rule == F1}
    assert set(points) == {"edema", "effusion", "nodule", MEAN}
    assert (points["nodule"]["f1"].estimate, points["nodule"]["f1"].status) == (None, ("not_estimable",))
    for name in ("accuracy", "f1"):
        assert points[MEAN][name].estimate == pytest.approx(np.mean([points[label][name].estimate or 0.0 for label in names[:2]]))
        low, high = points[MEAN][name].low, points[MEAN][name].high
        assert low is not None and high is not None and low < (points[MEAN][name].estimate or 0) < high
    (note,) = report.diagnostics.notes
    assert "no threshold for Mass, because validation does not have both" in note
    (section,) = sections(report)
    block = next(one for one in section.blocks if one.key == "operating")
    (table,) = (one for one in block.panels[0].tables if "largest F1" in one.caption)
    assert [row.entries[0].text for row in table.rows] == ["Edema", "Effusion", "Nodule", "Mean of 2 findings"]
    assert [row.entries[-1].text for row in table.rows][2] == "–" and note in block.sentences


def test_as_published_thresholds_are_of_the_test_rows_and_say_so(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=80)
    plain = text(build(plan, made.run))
    for spec in plan.jobs:
        folder = made.run.job(spec.job_id)
        if folder.predictions.exists():
            limits = {"edema": {"f1": 0.3, "n_pos": 20, "n_neg": 30}, "consolidation": {"f1": 0.1, "n_pos": 20, "n_neg": 30}}
            folder.result.write_text(json.dumps({**json.loads(folder.result.read_text()), "thresholds_on_test": limits}), encoding="utf-8")
    report = build(plan, made.run)
    points = report.diagnostics.operating_points
    assert {(one.label, one.rule, one.source, one.threshold) for one in points} == {
        ("edema", F1_ON_TEST, "test", 0.3),
        ("consolidation", F1_ON_TEST, "test", 0.1),
        (MEAN, F1_ON_TEST, "test", None),
    }
    assert all(one.status == ("chosen_on_test",) and one.n_validation_positive is None for one in points)
    rows = [row for row in diagnostic_rows(report) if "f1_on_test" in row["measure"]]
    assert rows and all("chosen_on_test" in row["status"] for row in rows)
    (section,) = sections(report)
    for page in (html(report, (section,)), markdown(report, (section,))):
        assert "threshold chosen on these test rows" in page and "too high there, and these numbers are no results" in page
    # Whoever does not ask has what there was: nothing of it, and no finding that is said to lack a threshold.
    assert "on_test" not in plain and "no operating points" in plain


def test_each_run_keeps_its_own_threshold(tmp_path: Path) -> None:
    parts = [having(split(1.5, seed=draw), arm="a", draw=draw) for draw in range(3)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)))
    alone = [found(report_of(write(tmp_path / f"{draw}.csv", part))) for draw, part in enumerate(parts)]
    point = found(report)
    assert point.n_runs == 3
    assert point.threshold == pytest.approx(np.mean([one.threshold for one in alone]))
    limits = [one.threshold or 0.0 for one in alone]
    assert (point.threshold_low, point.threshold_high) == (min(limits), max(limits))
    assert point.shares[0].estimate == pytest.approx(np.mean([one.shares[0].estimate for one in alone]))


def test_without_validation_there_are_no_points_and_the_report_says_so(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "x.csv", scores(1.0, seed=1)))
    assert report.diagnostics.operating_points == ()
    assert report.diagnostics.notes == ("Test set: no operating points, because no run has thresholds that were chosen on validation.",)


def test_a_model_that_calls_nobody_has_no_predictive_value(tmp_path: Path) -> None:
    run = split(1.5, seed=1)
    low = having(run, score=np.where(run["split"] == "test", 0.0, run["score"]))
    shares = {one.name: one for one in found(report_of(write(tmp_path / "x.csv", low))).shares}
    assert (shares["ppv"].estimate, shares["ppv"].low, shares["ppv"].status) == (None, None, ("not_estimable",))
    assert (shares["sensitivity"].estimate, shares["specificity"].estimate) == (0.0, 1.0)
    assert shares["specificity"].low is not None
    assert 0.9 < shares["specificity"].low < 1.0


def test_thresholds_of_a_sweep_are_those_of_its_choice(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=80)
    for spec in plan.jobs:
        folder = made.run.job(spec.job_id)
        if folder.predictions.exists():
            row = {"youden": 0.4, "n_pos": 30, "n_neg": 5}
            folder.choice.write_text(json.dumps({"labels": [], "thresholds": {"edema": row}}), encoding="utf-8")
    points = build(plan, made.run).diagnostics.operating_points
    assert {(one.label, one.rule, one.threshold) for one in points} == {("edema", "youden", 0.4)}
    assert all("few_validation" in one.status for one in points)
    one = points[0]
    report = build(plan, made.run)
    cell = next(cell for cell in report.cells if (cell.arm, cell.size) == (one.arm, one.size))
    called = []
    for point in cell.points:
        table = read_table(made.run.job(point.jobs[0]).predictions).to_pandas()
        rows = table[(table.label == "edema") & (table.truth == 1)]
        called.append((rows.score >= np.float32(0.4)).mean())
    assert one.shares[0].estimate == pytest.approx(np.mean(called), abs=1e-12)


def test_calibration_is_of_probabilities_and_adds_up(tmp_path: Path) -> None:
    parts = [having(split(1.5, seed=draw), arm="a", draw=draw) for draw in range(2)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)))
    (one,) = report.diagnostics.calibrations
    test = parts[0]["split"] == "test"
    expected = np.mean([brier_score_loss(part["truth"][test], part["score"][test]) for part in parts])
    assert one.brier == pytest.approx(expected, abs=1e-12)
    assert one.reliability - one.resolution + one.uncertainty + one.within == pytest.approx(one.brier, abs=1e-12)
    assert one.uncertainty == pytest.approx(one.prevalence * (1 - one.prevalence))
    assert (one.n, one.n_runs, one.bins, one.probabilities) == (200, 2, 10, "scores")
    assert sum(each.count for each in one.reliability_bins) == pytest.approx(200)
    assert sum(each.count * each.frequency for each in one.reliability_bins) == pytest.approx(200 * one.prevalence)
    for low, value, high in (
        (one.brier_low, one.brier, one.brier_high),
        (one.ece_equal_width_low, one.ece_equal_width, one.ece_equal_width_high),
        (one.ece_equal_mass_low, one.ece_equal_mass, one.ece_equal_mass_high),
    ):
        assert low is not None
        assert high is not None
        assert 0 <= low < value < high <= 1


def test_a_brier_interval_here_is_that_of_the_headline(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "x.csv", split(1.5, seed=3)), measure="brier")
    (one,), (cell,) = report.diagnostics.calibrations, report.cells
    assert (one.brier, one.brier_low, one.brier_high) == (
        pytest.approx(cell.estimate),
        pytest.approx(cell.low),
        pytest.approx(cell.high),
    )


def test_logits_are_brought_to_probabilities_first(tmp_path: Path) -> None:
    run = split(1.5, seed=1)
    (one,) = report_of(write(tmp_path / "x.csv", run)).diagnostics.calibrations
    logits = having(run, score=np.log(run["score"] / (1 - run["score"])))
    (same,) = report_of(write(tmp_path / "y.csv", logits)).diagnostics.calibrations
    assert same.probabilities == "sigmoid"
    assert same.ece_equal_mass == pytest.approx(one.ece_equal_mass, abs=1e-9)


def test_curves_are_means_over_runs_and_their_area_is_the_estimate(tmp_path: Path) -> None:
    parts = [having(split(1.5, seed=draw, cases=600), arm="a", draw=draw) for draw in range(2)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)))
    curve = {one.kind: one for one in report.diagnostics.curves}
    grid = np.array(report.diagnostics.grid)
    assert set(curve) == {"roc", "pr"}
    assert np.trapezoid(curve["roc"].y, grid) == pytest.approx(report.cells[0].estimate, abs=5e-3)
    (calibration,) = report.diagnostics.calibrations
    assert curve["pr"].y[-1] >= calibration.prevalence - 1e-12
    assert curve["roc"].n_runs == 2


def test_masks_are_found_or_not_without_a_threshold(tmp_path: Path) -> None:
    report = report_of(segmented(tmp_path / "x.parquet"))
    points = report.diagnostics.operating_points
    assert {(one.rule, one.source, one.threshold) for one in points} == {("mask", "none", None)}
    shares = {one.name: one for one in points[0].shares}
    assert 0.9 < (shares["sensitivity"].estimate or 0) < 1
    assert shares["specificity"].estimate == 1.0
    assert report.diagnostics.calibrations == ()
    assert report.diagnostics.curves == ()
    assert report.diagnostics.notes == ()


def test_all_of_it_is_in_the_json_and_comes_back(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "x.csv", split(1.5, seed=1)))
    written = text(report)
    assert "NaN" not in written
    back = parse(written).diagnostics
    assert set(json.loads(written)["diagnostics"]) == {item.name for item in fields(Diagnostics)}
    assert len(back.calibrations) == 1
    assert isinstance(back.calibrations[0], Calibration)
    assert back.operating_points[0].shares[0].name == "sensitivity"


@pytest.mark.parametrize("truth", [0, 1])
def test_one_class_alone_has_what_can_be_said_and_a_status(tmp_path: Path, truth: int) -> None:
    run = split(1.5, seed=1)
    one = having(run, truth=np.where(run["split"] == "test", truth, run["truth"]))
    report = report_of(write(tmp_path / "x.csv", one))
    shares = {each.name: each for each in found(report).shares}
    missing = "sensitivity" if truth == 0 else "specificity"
    assert (shares[missing].estimate, shares[missing].status) == (None, ("not_estimable",))
    assert report.diagnostics.curves == ()
    (calibration,) = report.diagnostics.calibrations
    assert calibration.uncertainty == 0.0
    assert "NaN" not in text(report)


def test_one_patient_has_numbers_and_no_interval(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "x.csv", having(split(1.5, seed=1), patient="p")))
    (calibration,) = report.diagnostics.calibrations
    assert (calibration.brier_low, calibration.ece_equal_width_low) == (None, None)
    assert "not_estimable" in calibration.status
    assert all(one.low is None for one in found(report).shares)


def test_the_page_shows_what_the_values_hold(tmp_path: Path) -> None:
    parts = [having(split(1.5 + (arm == "a"), seed=draw), arm=arm, draw=draw) for arm in "ab" for draw in range(2)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)), baseline="b")
    (section,) = sections(report)
    block = {one.key: one for one in section.blocks}
    table, for_f1 = block["operating"].panels[0].tables
    assert "largest F1 on validation" in for_f1.caption and [column.title for column in for_f1.columns[3:]] == ["Accuracy", "F1"]
    points = [one for one in report.diagnostics.operating_points if one.rule == "youden"]
    assert [row.entries[3].text for row in table.rows] == [number(one.shares[0].estimate) for one in points]
    assert [row.entries[1].text for row in table.rows] == ["a", "b"]
    assert "chosen" not in " ".join(block["operating"].sentences)
    (table,) = block["calibration"].panels[0].tables
    assert [row.entries[2].text for row in table.rows] == [number(one.brier) for one in report.diagnostics.calibrations]
    assert "the scores as they are" in table.caption
    page, markdown_text = html(report, (section,)), markdown(report, (section,))
    for rendered in (page, markdown_text):
        assert "At a threshold" in rendered
        assert "ECE, equal mass" in rendered
