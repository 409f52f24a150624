"""Reports from anybody's files: the same analysis as a sweep's, the same bytes in any order, numbers that others also get."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.parquet import read_table
from scipy import stats
from sklearn.metrics import roc_auc_score

from orchestrator.errors import ReportError
from orchestrator.report.analysis import analyse, build
from orchestrator.report.files.inputs import Asked, inputs_of_files
from orchestrator.report.record import text
from orchestrator.report.values import Report
from tests.orchestrator.report.files.made_files import having, joined, scores, write
from tests.orchestrator.report.made_run import quickstart

Columns = dict[str, Any]

FAST = Asked(resamples=200)


def report_of(*paths: Path, **asked: object) -> Report:
    return analyse(inputs_of_files(paths, Asked(**{"resamples": 200, **asked})))  # pyright: ignore[reportArgumentType]


def delong(truth: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """Return (variance of a, variance of a less b, two-sided p) by the definition: every positive against every negative."""
    kernels = []
    for score in (a, b):
        above = score[truth == 1][:, None] - score[truth == 0][None, :]
        kernels.append((above > 0) + 0.5 * (above == 0))
    areas = [kernel.mean() for kernel in kernels]
    m, n = kernels[0].shape
    s10 = np.cov([kernel.mean(axis=1) for kernel in kernels]) / m
    s01 = np.cov([kernel.mean(axis=0) for kernel in kernels]) / n
    covariance = s10 + s01
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    z = (areas[0] - areas[1]) / math.sqrt(variance)
    return float(covariance[0, 0]), float(variance), float(2 * stats.norm.sf(abs(z)))


def test_two_models_in_two_files_are_compared_as_delong_compares_them(tmp_path: Path) -> None:
    columns = {arm: having(scores(separation, seed=seed)) for arm, separation, seed in (("new", 1.6, 1), ("old", 0.9, 2))}
    columns["old"]["score"] = np.round(columns["old"]["score"], 1)  # ties
    paths = [write(tmp_path / f"{arm}.csv", one, order=3) for arm, one in columns.items()]
    report = report_of(*paths, baseline="old")
    cells = {one.arm: one for one in report.cells}
    truth = columns["new"]["truth"]
    for arm, one in columns.items():
        assert cells[arm].estimate == pytest.approx(roc_auc_score(truth, one["score"]), abs=1e-15)
    variance, of_difference, p = delong(truth, columns["new"]["score"], columns["old"]["score"])
    (first,) = (one for one in cells["new"].estimates if one.method == "influence")
    assert first.se == pytest.approx(math.sqrt(variance), rel=1e-12)
    (found,) = report.differences
    (headline,) = (one for one in found.estimates if one.method == "influence")
    assert headline.se == pytest.approx(math.sqrt(of_difference), rel=1e-12)
    assert found.p == pytest.approx(p, rel=1e-9)
    assert (found.matching, found.estimand) == ("one_run", "these_models_new_patients")


def test_a_sweep_and_its_predictions_give_the_same_answers(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path / "run", draws=3, patients=120)
    of_sweep = build(plan, made.run)
    parts = []
    for row in of_sweep.ledger:
        if row.size == "count=64":
            table = read_table(made.run.job(row.job).predictions).to_pydict()
            parts.append(having({name: np.array(values) for name, values in table.items()}, arm=row.arm, draw=row.replicate.split()[-1]))
    path = write(tmp_path / "all.parquet", joined(*parts))
    baseline = "finetune/after=none"
    report = analyse(inputs_of_files([path], Asked(baseline=baseline, resamples=plan.report.resamples)))
    theirs = {(one.arm, one.label): one for one in (*of_sweep.cells, *of_sweep.label_cells) if one.size == "count=64"}
    for one in (*report.cells, *report.label_cells):
        other = theirs[one.arm, one.label]
        assert one.estimate == pytest.approx(other.estimate, abs=1e-12)
        assert (one.low, one.high) == (pytest.approx(other.low, abs=1e-10), pytest.approx(other.high, abs=1e-10))
    found = {one.arm: one for one in report.differences}
    other_gaps = {one.arm: one for one in of_sweep.differences if (one.size, one.baseline) == ("count=64", baseline)}
    assert other_gaps
    for arm, other in other_gaps.items():
        assert found[arm].matching == "matched"
        assert found[arm].low == pytest.approx(other.low, abs=1e-10)


def test_any_order_of_files_and_rows_gives_the_same_bytes(tmp_path: Path) -> None:
    runs = {(arm, draw): scores(1.0 + (arm == "moco"), seed=draw) for arm in ("moco", "none") for draw in range(3)}
    parts = [having(one, arm=arm, draw=draw) for (arm, draw), one in runs.items()]
    one_file = write(tmp_path / "a" / "x.csv", joined(*parts), order=1)
    first = text(report_of(one_file, baseline="none"))
    again = write(tmp_path / "b" / "x.csv", joined(*parts[::-1]), order=2)
    assert text(report_of(again, baseline="none")) == first
    as_parquet = write(tmp_path / "c" / "x.parquet", joined(*parts), order=4)
    assert json.loads(text(report_of(as_parquet, baseline="none")))["cells"] == json.loads(first)["cells"]
    split = [write(tmp_path / "d" / f"{arm}-{draw}.csv", part) for (arm, draw), part in zip(runs, parts, strict=True)]
    assert text(report_of(*split, baseline="none")) == text(report_of(*split[::-1], baseline="none"))
    assert json.loads(text(report_of(*split, baseline="none")))["cells"] == json.loads(first)["cells"]


def test_files_name_arms_and_draws_where_columns_do_not(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"model{index}.csv", scores(1.0, seed=index)) for index in (2, 10)]
    report = report_of(*paths)
    assert [arm.title for arm in report.test_sets[0].arms] == ["model2", "model10"]
    assert any("--baseline ARM" in warning for warning in report.warnings)
    assert report.differences == ()
    seeds = [write(tmp_path / f"run{index}.csv", having(scores(1.0, seed=index), arm="moco")) for index in range(3)]
    (found,) = report_of(*seeds).cells
    assert (found.arm, found.n_replicates, [point.replicate for point in found.points]) == (
        "moco",
        3,
        ["file run0", "file run1", "file run2"],
    )
    same = [write(tmp_path / folder / "test.csv", scores(1.0, seed=index)) for index, folder in enumerate(("a", "b"))]
    assert [arm.title for arm in report_of(*same).test_sets[0].arms] == ["a/test", "b/test"]
    with pytest.raises(ReportError, match=r"test\.csv: is named twice"):
        report_of(same[0], same[0])


def test_draws_of_one_name_are_matched_and_seeds_are_not(tmp_path: Path) -> None:
    for column, matching in (("draw", "matched"), ("seed", "nested")):
        parts = [
            having(scores(1.0 + (arm == "a"), seed=run + 5 * (arm == "a")), arm=arm, **{column: run}) for arm in "ab" for run in range(3)
        ]
        (found,) = report_of(write(tmp_path / f"{column}.csv", joined(*parts)), baseline="b").differences
        assert found.matching == matching
        assert found.estimand == f"new_{column}s_new_patients"


def test_a_draw_that_another_arm_has_is_missing_and_named(tmp_path: Path) -> None:
    parts = [having(scores(1.0, seed=run), arm=arm, draw=run) for arm in "ab" for run in range(3) if (arm, run) != ("a", 1)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)), baseline="b")
    found = next(one for one in report.cells if one.arm == "a")
    assert (found.n_runs, found.n_planned, found.missing) == (2, 3, ("draw 1",))
    assert "missing_runs" in found.status
    assert report.differences[0].unmatched == ("b: draw 1",)
    assert sum(not row.present for row in report.ledger) == 1


def test_sizes_are_columns_and_keep_their_order(tmp_path: Path) -> None:
    parts = [having(scores(0.5 + size / 400, seed=run), arm="a", draw=run, n_labeled=size) for size in (1000, 64) for run in range(2)]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)))
    assert [one.title for one in report.test_sets[0].sizes] == ["64 labelled images", "1,000 labelled images"]
    assert [one.n_labeled for one in report.cells] == [64.0, 1000.0]
    parts = [having(scores(1.0, seed=run), arm="a", draw=run, fraction=0.01, n_labeled=2234) for run in range(2)]
    report = report_of(write(tmp_path / "y.csv", joined(*parts)))
    assert (report.cells[0].size, report.cells[0].n_labeled) == ("fraction=0.01", 2234.0)
    parts[1]["n_labeled"][3] = 5
    with pytest.raises(ReportError, match="'n_labeled' is 5 in one row and 2234 in another"):
        report_of(write(tmp_path / "z.csv", joined(*parts)))


def test_test_sets_are_parts_of_their_own(tmp_path: Path) -> None:
    parts = [having(scores(1.0, seed=1), arm=arm, test_set=name) for arm in "ab" for name in ("home", "away")]
    report = report_of(write(tmp_path / "x.csv", joined(*parts)), baseline="b")
    assert [one.key for one in report.test_sets] == ["away", "home"]
    assert {one.test_set for one in report.differences} == {"away", "home"}


def test_without_patients_images_are_resampled_and_the_page_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", having(scores(1.0, seed=1), patient=None))
    report = report_of(path)
    assert report.test_sets[0].cluster == "images"
    assert any("name no patients" in warning for warning in report.warnings)
    assert not report_of(path, cluster="image").warnings
    with pytest.raises(ReportError, match="no column 'patient'; add it"):
        report_of(path, cluster="patient")
    with pytest.raises(ReportError, match="no column 'study', so studies cannot be resampled"):
        report_of(path, cluster="study")
    with pytest.raises(ReportError, match=r"x\.csv: has no column 'patient'"):
        report_of(path, write(tmp_path / "y.csv", scores(1.0, seed=2)))
    with pytest.raises(ReportError, match="'bed' cannot be resampled; choose patient, study, image"):
        report_of(path, cluster="bed")


def test_patients_with_several_images_widen_the_interval(tmp_path: Path) -> None:
    """A patient's images three times over carry no more than once (Obuchowski 1997)."""
    once = scores(1.0, seed=1)
    thrice = joined(*(having(once, image=np.char.add(once["image"], f"-{view}")) for view in range(3)))
    (single,), (tripled,) = report_of(write(tmp_path / "a.csv", once)).cells, report_of(write(tmp_path / "b.csv", thrice)).cells
    assert tripled.estimates[0].se == pytest.approx(single.estimates[0].se, rel=1e-12)
    (naive,) = report_of(write(tmp_path / "b.csv", thrice), cluster="image").cells
    assert (naive.estimates[0].se or 0) < 0.65 * (single.estimates[0].se or 0)


def _again(one: Columns) -> Columns:
    return joined(one, {name: values[:1] for name, values in one.items()})


def _two_patients(one: Columns) -> Columns:
    return having(joined(one, having(one, label="mass")), patient=np.r_[one["patient"], np.roll(one["patient"], 1)])


def _leak(one: Columns) -> Columns:
    return having(joined(one, one), split=np.repeat(["test", "val"], 160))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (_again, r"x\.csv, line 162: unit '0000' is scored again for 'edema' in x \(first in x\.csv, line 2\)"),
        (_two_patients, r"x\.csv, line 162: 'patient' of unit '0000' is 'p159' and was 'p0' in x\.csv, line 2; a unit has one patient"),
        (_leak, "unit '0000' is in split val and in split test"),
        (lambda one: having(one, split="val"), r"x\.csv: x has rows of split val and none of split test"),
    ],
    ids=["twice", "two patients", "leak", "only val"],
)
def test_rows_that_contradict_each_other_are_refused_by_line(tmp_path: Path, changed: Callable[[Columns], Columns], said: str) -> None:
    with pytest.raises(ReportError, match=said):
        report_of(write(tmp_path / "x.csv", changed(scores(1.0, seed=1))))


def test_arms_on_other_rows_are_refused_with_a_row_that_differs(tmp_path: Path) -> None:
    whole = scores(1.0, seed=1)
    paths = [write(tmp_path / "a.csv", whole), write(tmp_path / "b.csv", {name: values[1:] for name, values in whole.items()})]
    with pytest.raises(ReportError, match=r"a \(a\.csv\) scored 160 units.*cannot be compared: unit '0000' is only in a \(a\.csv\)"):
        report_of(*paths)
    other = having(whole, truth=np.where(whole["image"] == "0007", 1 - whole["truth"], whole["truth"]))
    with pytest.raises(ReportError, match=r"the truth of edema in unit '0007' is \d in .* and \d in"):
        report_of(paths[0], write(tmp_path / "c.csv", other))
    moved = having(whole, patient=np.where(whole["image"] == "0007", "p1", whole["patient"]))
    with pytest.raises(ReportError, match=r"the patient of unit '0007' is 'p\d' in"):
        report_of(paths[0], write(tmp_path / "d.csv", moved))


@pytest.mark.parametrize("truth", [0, 1])
def test_one_class_only_has_a_status_and_no_number(tmp_path: Path, truth: int) -> None:
    report = report_of(write(tmp_path / "x.csv", having(scores(1.0, seed=1), truth=truth)))
    (found,) = report.cells
    assert (found.estimate, found.low, found.status) == (None, None, ("not_estimable",))
    assert report.test_sets[0].labels[0].status == ("not_estimable",)


def test_one_patient_has_a_status_and_no_interval(tmp_path: Path) -> None:
    (found,) = report_of(write(tmp_path / "x.csv", having(scores(1.0, seed=1), patient="p"))).cells
    assert (found.low, found.high) == (None, None)
    assert "not_estimable" in found.status


def test_constant_scores_rank_nothing_and_have_no_false_interval(tmp_path: Path) -> None:
    report = report_of(
        write(tmp_path / "a.csv", having(scores(1.0, seed=1), score=0.5)), write(tmp_path / "b.csv", scores(1.0, seed=1)), baseline="a"
    )
    found = next(one for one in report.cells if one.arm == "a")
    assert (found.estimate, found.low, found.high) == (0.5, None, None)
    assert "constant_scores" in found.status
    (gap,) = report.differences
    assert gap.low is not None


def test_a_measure_or_an_arm_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", scores(1.0, seed=1))
    with pytest.raises(ReportError, match="measure 'auroc/mass' needs 'mass'"):
        report_of(path, measure="auroc/mass")
    with pytest.raises(ReportError, match="no arm is called 'y': there are x"):
        report_of(path, baseline="y")
    with pytest.raises(ReportError, match=r"a confidence of 1\.2 makes no interval"):
        report_of(path, confidence=1.2)
    with pytest.raises(ReportError, match="5 resamples make no interval"):
        report_of(path, resamples=5)
    with pytest.raises(ReportError, match="no file is named"):
        inputs_of_files([], FAST)
