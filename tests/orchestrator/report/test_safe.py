"""Whatever predictions hold, a report is made of finite numbers, or refused in one sentence that names the place."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from orchestrator.errors import ReportError
from orchestrator.model import AxisKind
from orchestrator.report.analysis import analyse, build
from orchestrator.report.files.inputs import Asked, inputs_of_files
from orchestrator.report.layout import sections
from orchestrator.report.lines import csv_text
from orchestrator.report.record import text
from orchestrator.report.render import html, markdown
from orchestrator.report.values import Cell, Difference, Report
from tests.orchestrator.report.files.made_files import having, joined, write
from tests.orchestrator.report.made_run import Made

MEASURES = ("auroc_macro", "auroc/a", "ap_macro", "brier_macro", "accuracy")


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a table of predictions with all that may be thin about one: few rows, classes, patients, draws, arms, values."""
    cases = draw(st.integers(1, 14))
    labels = draw(st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]))
    patients = draw(st.lists(st.integers(0, draw(st.integers(0, cases))), min_size=cases, max_size=cases))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    prevalence = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    truth = (rng.random((cases, len(labels))) < prevalence).astype(int)
    if draw(st.booleans()):
        truth = np.eye(len(labels), dtype=int)[rng.integers(0, len(labels), cases)]
    known = rng.random((cases, len(labels))) < draw(st.sampled_from([0.6, 1.0]))
    known[0, 0] = True
    parts: list[dict[str, Any]] = []
    for arm in ("x", "y")[: draw(st.integers(1, 2))]:
        for run in draw(st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)):
            kind = draw(st.sampled_from(["constant", "perfect", "noise", "coarse", "huge", "same"]))
            score = _scores(kind, truth, np.random.default_rng(run if kind == "same" else rng.integers(1 << 30)))
            rows, columns = np.nonzero(known)
            parts.append(
                {
                    "image": np.array([f"i{row:02d}" for row in rows]),
                    "patient": np.array([f"p{patients[row]}" for row in rows]),
                    "label": np.array(labels)[columns],
                    "truth": truth[rows, columns],
                    "score": score[rows, columns],
                    "arm": np.full(len(rows), arm),
                    "draw": np.full(len(rows), str(run)),
                    "split": np.where(np.array(patients)[rows] % 4 == 3, "val", "test"),
                    "sex": np.where(rows % 3 == 0, "F", "M"),
                    "age": rows * 9,
                }
            )
    whole = joined(*parts)
    dropped = draw(st.sampled_from([(), ("draw",), ("patient",), ("split",), ("sex",)]))
    return having(whole, **dict.fromkeys(dropped))


def _scores(kind: str, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal(truth.shape)
    return {
        "constant": np.full(truth.shape, 0.25),
        "perfect": truth.astype(np.float64),
        "noise": noise,
        "coarse": np.round(noise),
        "huge": noise * 1e300,
        "same": np.round(truth + noise, 1),
    }[kind]


def check(report: Report) -> None:
    """Look for what must never be: a number that is none, an interval without a width, a status where there is a claim of none."""
    written = text(report)
    assert "NaN" not in written
    assert "Infinity" not in written
    json.loads(written, parse_constant=lambda value: pytest.fail(f"{value} in report.json"))
    for one in (*report.cells, *report.label_cells, *report.differences, *report.label_differences):
        _check_ends(one)
        for estimate in one.estimates:
            assert (estimate.low is None) == (estimate.high is None)
            assert estimate.low is None or estimate.high is None or estimate.low < estimate.high
    for one in report.cells:
        if one.low is None:
            assert one.status, "a cell without an interval says why"
    pairs = [(share.low, share.high) for point in report.diagnostics.operating_points for share in point.shares]
    pairs += [(one.low, one.high) for one in report.subgroups.estimates]
    for each in report.diagnostics.calibrations:
        pairs += [(each.brier_low, each.brier_high), (each.ece_equal_width_low, each.ece_equal_width_high)]
        pairs += [(each.ece_equal_mass_low, each.ece_equal_mass_high)]
        pairs += [(row.frequency_low, row.frequency_high) for row in each.reliability_bins]
    for low, high in pairs:
        assert (low is None) == (high is None)
        assert low is None or high is None or low < high
    for one in report.subgroups.estimates:
        assert one.low is not None or one.status, "a subgroup without an interval says why"
    csv_text(report)


def check_page(report: Report) -> None:
    """Look at what a person sees too; it takes longer."""
    shown = sections(report)
    for page in (markdown(report, shown), html(report, shown)):
        assert not re.search(r"\b(nan|inf)\b", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL).lower())


def _check_ends(one: Cell | Difference) -> None:
    assert (one.low is None) == (one.high is None)
    if one.low is not None and one.high is not None:
        assert one.low < one.high
        assert one.estimate is not None
        if isinstance(one, Cell) and not one.measure.startswith("hd95"):
            assert 0.0 <= one.low <= one.high <= 1.0


@given(table=runs(), measure=st.sampled_from(MEASURES), baseline=st.sampled_from([None, "x"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_predictions_make_a_report_of_numbers_or_one_sentence(table: dict[str, Any], measure: str, baseline: str | None) -> None:
    asked = Asked(measure=measure, baseline=baseline, resamples=100, subgroups=("sex", "age"))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        path = write(Path(folder) / "x.parquet", table)
        try:
            report = analyse(inputs_of_files([path], asked))
        except ReportError as error:
            assert str(error).strip()
            assert "\n" not in str(error)
            return
        check(report)
        if measure == "brier_macro":
            check_page(report)


@given(
    st.lists(
        st.tuples(*(st.integers(0, 3) for _ in range(4)), st.sampled_from(["p0", "p1", "p2"]), st.sampled_from("hl")),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["dice", "dice_as_published", "dice_pooled", "hd95", "hd95/h"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_masks_make_a_report_of_numbers_or_one_sentence(rows: list[tuple[int, int, int, int, str, str]], measure: str) -> None:
    parts: list[dict[str, Any]] = []
    for arm in ("x", "y"):
        for run in range(2):
            predicted = np.array([(row[0] + run * (arm == "x")) % 4 for row in rows])
            true = np.array([row[1] for row in rows])
            both = np.minimum(np.array([row[2] for row in rows]), np.minimum(predicted, true))
            drawn = (predicted > 0) & (true > 0)
            parts.append(
                {
                    "image": np.array([f"i{index}" for index in range(len(rows))]),
                    "patient": np.array([row[4] for row in rows]),
                    "structure": np.array([{"h": "heart", "l": "lung"}[row[5]] for row in rows]).astype(str),
                    "intersection": both,
                    "predicted": predicted,
                    "true": true,
                    "hd95": np.where(drawn, np.array([float(row[3]) for row in rows]), np.nan),
                    "diagonal": np.full(len(rows), 5.0),
                    "arm": np.full(len(rows), arm),
                    "draw": np.full(len(rows), str(run)),
                }
            )
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "x.parquet", joined(*parts))
        try:
            report = analyse(inputs_of_files([path], Asked(measure=measure, baseline="x", resamples=100)))
        except ReportError as error:
            assert "\n" not in str(error)
            return
        check(report)


NOISE = st.one_of(st.binary(max_size=120), st.text(max_size=120).map(str.encode))


@given(NOISE, st.sampled_from(["x.csv", "x.parquet", "x"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused_in_one_sentence(content: bytes, name: str, headed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes((b"image,patient,label,truth,score\n" if headed else b"") + content)
        try:
            report = analyse(inputs_of_files([path], Asked(resamples=100)))
        except ReportError as error:
            assert name in str(error)
            return
        check(report)


@given(
    present=st.lists(st.booleans(), min_size=6, max_size=6),
    rows=st.integers(1, 30),
    prevalence=st.sampled_from([0.0, 0.2, 1.0]),
    separation=st.sampled_from([0.0, 1.0, 80.0]),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_state_of_a_sweep_makes_a_report_of_numbers_or_one_sentence(
    present: list[bool], rows: int, prevalence: float, separation: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Made(Path(folder), patients=rows, images_per_patient=1, labels=("edema", "mass"), prevalence=(prevalence, 0.5))
        made.axis("after", AxisKind.COMPARE, ("pretrain", "none"))
        made.axis("draw", AxisKind.REPLICATE, (0, 1, 2))
        for index, there in enumerate(present):
            labels = {"after": ("pretrain", "none")[index % 2], "draw": index // 2, "target": "phantom"}
            made.evaluation("finetune", labels, separation=separation, present=there)
        try:
            report = build(made.plan(resamples=100), made.run)
        except ReportError as error:
            assert "\n" not in str(error)
            return
        check(report)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"score": pa.array([0.1, None, 0.3])}, "1 scores are not finite"),
        ({"score": pa.array([0.1, float("inf"), 0.3])}, "1 scores are not finite"),
        ({"truth": pa.array([1, None, 0])}, "a truth is neither 0 nor 1"),
        ({"truth": pa.array([1.0, 0.5, 0.0])}, "a truth is neither 0 nor 1"),
        ({"truth": pa.array(["1", "x", "0"])}, "column 'truth' holds string"),
        ({"score": pa.array(["a", "b", "c"])}, "column 'score' holds string"),
        ({"patient": pa.array(["p", None, "q"])}, "'patient' is empty"),
        ({"image": pa.array(["i", None, "k"])}, "'image' is empty"),
    ],
)
def test_a_damaged_evaluation_is_refused_by_the_name_of_its_run(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    made = Made(tmp_path, patients=3)
    made.axis("after", AxisKind.COMPARE, ("none",))
    job = made.evaluation("finetune", {"after": "none", "target": "phantom"})
    columns = {
        "image": pa.array(["i", "j", "k"]),
        "patient": pa.array(["p", "q", "r"]),
        "study": pa.array(["s", "t", "u"]),
        "label": pa.array(["edema"] * 3),
        "truth": pa.array([1, 0, 0]),
        "score": pa.array([0.1, 0.2, 0.3]),
    }
    pq.write_table(pa.table({**columns, **changed}), made.run.job(job.job_id).predictions)
    with pytest.raises(ReportError, match=said) as caught:
        build(made.plan(contrasts=()), made.run)
    assert job.short_id in str(caught.value)


def test_an_evaluation_without_a_row_is_refused_by_the_name_of_its_run(tmp_path: Path) -> None:
    made = Made(tmp_path, patients=3)
    made.axis("after", AxisKind.COMPARE, ("none",))
    job = made.evaluation("finetune", {"after": "none", "target": "phantom"})
    table = pq.read_table(made.run.job(job.job_id).predictions)
    pq.write_table(table.slice(0, 0), made.run.job(job.job_id).predictions)
    with pytest.raises(ReportError, match="has no row"):
        build(made.plan(contrasts=()), made.run)
