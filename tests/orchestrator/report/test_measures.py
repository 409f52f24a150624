"""Reports whose headline is no area: every cell, difference, mark and sentence as for one, turned around where lower is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

from orchestrator.errors import ReportError
from orchestrator.report import tables
from orchestrator.report.analysis import analyse
from orchestrator.report.files.inputs import Asked, inputs_of_files
from orchestrator.report.record import parse, text
from orchestrator.report.values import Report
from tests.orchestrator.report.files.made_files import having, joined, scores, write

CLASSES = ("covid", "normal", "pneumonia")


def report_of(path: Path, **asked: Any) -> Report:
    report = analyse(inputs_of_files([path], Asked(**{"resamples": 300, "baseline": "b", **asked})))
    assert parse(text(report)).test_sets == report.test_sets
    return report


def two_arms(path: Path, *, draws: int = 3, **more: Any) -> tuple[Path, dict[tuple[str, int], dict[str, Any]]]:
    """Write an arm a that is better than b, as probabilities."""
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    for arm, separation in (("a", 3.0), ("b", 0.5)):
        for draw in range(draws):
            one = scores(separation, seed=draw + 7 * (arm == "a"), images_a_patient=2, labels=("edema", "mass"), **more)
            probability = 1 / (1 + np.exp(1.0 - one["score"]))
            runs[arm, draw] = having(one, score=probability, arm=arm, draw=draw)
    return write(path, joined(*runs.values())), runs


def by_label(run: dict[str, Any], measure: Any) -> list[float]:
    return [measure(run["truth"][run["label"] == name], run["score"][run["label"] == name]) for name in ("edema", "mass")]


@pytest.mark.parametrize(("name", "theirs"), [("ap_macro", average_precision_score), ("brier_macro", brier_score_loss)])
def test_a_macro_measure_is_the_mean_over_findings_and_draws(tmp_path: Path, name: str, theirs: Any) -> None:
    path, runs = two_arms(tmp_path / "x.csv")
    report = report_of(path, measure=name)
    for cell in report.cells:
        expected = [np.mean(by_label(run, theirs)) for (arm, _), run in runs.items() if arm == cell.arm]
        assert [point.value for point in cell.points] == pytest.approx(expected, abs=1e-12)
        assert cell.estimate == pytest.approx(np.mean(expected), abs=1e-12)
        assert cell.low is not None
        assert cell.high is not None
        assert cell.low < (cell.estimate or 0) < cell.high
        assert cell.measure == name
    (found,) = report.differences
    assert found.matching == "matched"
    assert {one.measure for one in report.label_cells} == {name.removesuffix("_macro")}
    assert len(report.label_cells) == 4


def test_average_precision_has_the_bootstrap_for_its_headline(tmp_path: Path) -> None:
    path, _ = two_arms(tmp_path / "x.csv")
    report = report_of(path, measure="ap/mass")
    assert {one.method for one in (*report.cells, *report.differences)} == {"crossed_bootstrap"}
    assert "obuchowski_rockette_hillis" in {one.method for one in report.cells[0].estimates}
    assert report.test_sets[0].measure_title == "average precision, mass"
    assert any("Average precision is not interpolated" in said for said in report.methods)
    assert report.test_sets[0].reference is None


def test_where_lower_is_better_verdicts_and_marks_turn_around(tmp_path: Path) -> None:
    path, _ = two_arms(tmp_path / "x.csv")
    up, down = report_of(path), report_of(path, measure="brier")
    assert (up.verdicts[0].tone, down.verdicts[0].tone) == ("better", "better")
    assert "higher than b" in up.verdicts[0].claim
    assert "lower than b in macro Brier score (lower is better)" in down.verdicts[0].claim
    assert (down.differences[0].estimate or 0) < 0
    for report, of in ((up, "highest"), (down, "lowest")):
        table = tables.headline(report, report.test_sets[0])
        assert f"Bold is the {of} estimate" in table.note
        assert [row.entries[1].rank for row in table.rows] == [1, 2]
    worse = report_of(path, measure="brier", baseline="a").verdicts[0]
    assert (worse.tone, "higher than a" in worse.claim) == ("worse", True)
    assert any("Scores are probabilities." in said for said in down.methods)


def test_a_logit_is_brought_to_a_probability_first(tmp_path: Path) -> None:
    path, runs = two_arms(tmp_path / "x.csv")
    logits = [having(run, score=np.log(run["score"] / (1 - run["score"]))) for run in runs.values()]
    other = report_of(write(tmp_path / "y.csv", joined(*logits)), measure="brier")
    assert other.test_sets[0].scores == "logits"
    for one, same in zip(report_of(path, measure="brier").cells, other.cells, strict=True):
        assert one.estimate == pytest.approx(same.estimate, abs=1e-12)
    with pytest.raises(ReportError, match=r"y\.csv, line \d+: 'score' is -?\d.*, which is no probability; say --scores logit"):
        report_of(tmp_path / "y.csv", scores="probability")
    said = report_of(path, measure="brier", scores="logit")
    assert said.test_sets[0].scores == "logits"
    with pytest.raises(ReportError, match="a score is no 'odds'; choose logit or probability"):
        report_of(path, scores="odds")


def classes(separation: float, *, seed: int, cases: int = 120) -> dict[str, np.ndarray]:
    fixed, own = np.random.default_rng(5), np.random.default_rng(seed)
    truth = np.eye(3, dtype=int)[fixed.integers(0, 3, cases)]
    score = separation * truth + own.standard_normal(truth.shape)
    rows = np.arange(cases)
    return {
        "image": np.tile([f"{row:03d}" for row in rows], 3),
        "patient": np.tile([f"p{row // 2}" for row in rows], 3),
        "label": np.repeat(CLASSES, cases),
        "truth": truth.T.ravel(),
        "score": score.T.ravel(),
    }


def test_accuracy_is_of_the_most_likely_class_and_findings_are_one_against_the_rest(tmp_path: Path) -> None:
    runs = {
        (arm, draw): classes(separation, seed=draw + 9 * (arm == "a")) for arm, separation in (("a", 2.5), ("b", 1.0)) for draw in range(3)
    }
    parts = [having(run, arm=arm, draw=draw) for (arm, draw), run in runs.items()]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)), measure="accuracy")
    cell = next(one for one in report.cells if one.arm == "a")
    expected = [
        float((run["truth"].reshape(3, -1).argmax(axis=0) == run["score"].reshape(3, -1).argmax(axis=0)).mean())
        for (arm, _), run in runs.items()
        if arm == "a"
    ]
    assert [point.value for point in cell.points] == pytest.approx(expected)
    assert {one.measure for one in report.label_cells} == {"auroc"}
    assert report.test_sets[0].measure_title == "accuracy"
    two = having(joined(*parts), truth=np.where(joined(*parts)["image"] == "007", 1, joined(*parts)["truth"]))
    with pytest.raises(ReportError, match=r"each unit needs one true class and a truth of every class, and unit '007' has 3 of 3"):
        report_of(write(tmp_path / "y.csv", two), measure="accuracy")


def test_an_accuracy_of_one_has_a_width(tmp_path: Path) -> None:
    parts = [having(classes(99.0, seed=draw), arm="a", draw=draw) for draw in range(3)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)), measure="accuracy", baseline=None)
    (cell,) = report.cells
    assert (cell.estimate, cell.method) == (1.0, "wilson")
    assert cell.low is not None
    assert 0.9 < cell.low < 0.98  # 60 patients: 1 / (1 + z^2 / 60) = 0.940
    assert "at_boundary" in cell.status


def masks(quality: float, *, seed: int, images: int = 60) -> dict[str, np.ndarray]:
    fixed, own = np.random.default_rng(8), np.random.default_rng(seed)
    rows, parts = np.arange(images), []
    for structure in ("heart", "lung"):
        true = fixed.integers(200, 900, images) * (fixed.random(images) > 0.2)
        predicted = np.where(own.random(images) < 0.04, 0, true)
        both = np.floor(predicted * np.clip(quality + 0.08 * own.standard_normal(images), 0, 1)).astype(int)
        drawn = (true > 0) & (predicted > 0)
        parts.append(
            {
                "image": np.array([f"{row:03d}" for row in rows]),
                "patient": np.array([f"p{row // 2}" for row in rows]),
                "structure": np.full(images, structure),
                "intersection": both,
                "predicted": predicted,
                "true": true,
                "hd95": np.where(drawn, np.round(60 * (1.05 - quality) * (0.5 + own.random(images)), 2), np.nan),
                "diagonal": np.full(images, 400.0),
            }
        )
    return joined(*parts)


def segmented(path: Path) -> Path:
    parts = [
        having(masks(quality, seed=draw + 9 * (arm == "a")), arm=arm, draw=draw)
        for arm, quality in (("a", 0.9), ("b", 0.7))
        for draw in range(4)
    ]
    return write(path, joined(*parts))


def test_masks_are_compared_by_dice_and_by_distance(tmp_path: Path) -> None:
    path = segmented(tmp_path / "x.parquet")
    report = report_of(path)
    assert (report.test_sets[0].measure, report.test_sets[0].scores) == ("dice", "masks")
    assert report.test_sets[0].measure_title == "Dice, mean over structures"
    (found,) = report.differences
    assert found.estimate == pytest.approx(0.2, abs=0.03)
    assert report.verdicts[0].tone == "better"
    assert {label.name: label.n_negative > 0 for label in report.test_sets[0].labels} == {"heart": True, "lung": True}
    far = report_of(path, measure="hd95/lung")
    assert far.verdicts[0].tone == "better"
    assert "lower than b in HD95, lung (lower is better)" in far.verdicts[0].claim
    assert {one.method for one in far.cells} == {"crossed_bootstrap"}
    assert all((one.n_penalised or 0) > 0 for one in far.cells)
    assert any("structures a run were not found" in said for said in far.methods)
    pooled = report_of(path, measure="dice_pooled")
    assert pooled.cells[0].estimate is not None
    alike = report_of(path, measure="dice_as_published")
    assert (alike.cells[0].estimate or 0) > (report.cells[0].estimate or 0)


def test_few_patients_with_masks_have_their_own_degrees_of_freedom(tmp_path: Path) -> None:
    report = report_of(segmented(tmp_path / "x.parquet"))
    for cell in report.cells:
        for one in cell.estimates:
            assert one.df is None or one.df <= 29
        assert next(one.df for one in cell.estimates if one.method == "influence") == 29


def test_masks_that_cannot_be_are_refused_by_row(tmp_path: Path) -> None:
    good = masks(0.8, seed=1)
    row = int(np.flatnonzero((good["true"] > 0) & (good["predicted"] > 0))[0])
    empty = int(np.flatnonzero(good["true"] == 0)[0])
    hit = np.arange(len(good["true"])) == row
    for changed, said in (
        ({"intersection": np.where(hit, 10_000, good["intersection"])}, "share 10000 pixels, more than one of them has"),
        ({"intersection": np.where(hit, -1, good["intersection"])}, "'intersection' is -1, which is no number of pixels"),
        ({"hd95": np.where(hit, np.nan, good["hd95"])}, "both masks are there and 'hd95' is not"),
        ({"hd95": np.where(hit, 999.0, good["hd95"])}, "beyond the diagonal"),
        ({"diagonal": np.where(hit, 0.0, good["diagonal"])}, "'diagonal' is no length"),
        ({"diagonal": np.where(hit, 401.0, good["diagonal"])}, "has two diagonals"),
        ({"diagonal": None}, "'hd95' and no 'diagonal'"),
    ):
        with pytest.raises(ReportError, match=said):
            report_of(write(tmp_path / "x.parquet", having(good, **changed)), baseline=None)
    with pytest.raises(ReportError, match=rf"x\.parquet, row {empty + 1}: 'hd95' is there and a mask is empty"):
        report_of(write(tmp_path / "x.parquet", having(good, hd95=np.nan_to_num(good["hd95"], nan=3.0))), baseline=None)


def test_scores_and_masks_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", masks(0.8, seed=1))
    write(tmp_path / "b.csv", scores(1.0, seed=1))
    with pytest.raises(ReportError, match=r"cannot be compared|some of its runs left scores and others masks"):
        analyse(inputs_of_files([tmp_path / "a.parquet", tmp_path / "b.csv"], Asked(resamples=200)))
    with pytest.raises(ReportError, match=r"measure 'auroc_macro' cannot be made of masks; set `report\.measure` to one of: dice_macro"):
        report_of(tmp_path / "a.parquet", measure="auroc_macro", baseline=None)
    with pytest.raises(ReportError, match="measure 'dice/spleen' needs 'spleen', which is not scored here"):
        report_of(tmp_path / "a.parquet", measure="dice/spleen", baseline=None)
