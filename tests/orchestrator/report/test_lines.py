"""The long form: every estimate of the JSON has a row and a name, and the JSON is enough to make it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from orchestrator.errors import ReportError
from orchestrator.report import lines, record
from orchestrator.report.analysis import build
from orchestrator.report.render import write
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import leave_pair_out, quickstart


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), gaps=1, patients=120)
    report = build(plan, made.run)
    folder = made.run.sweep("made").report
    write(report, folder)
    return report, folder


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "report.csv").read_text(encoding="utf-8"))))


def test_every_estimate_of_the_json_is_a_row(written: tuple[Report, Path]) -> None:
    _, folder = written
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    wanted: set[tuple[object, ...]] = set()
    for kind, group in (("cell", ("cells", "label_cells")), ("difference", ("differences", "label_differences"))):
        for name in group:
            for one in content[name]:
                place = (kind, one["test_set"], one["arm"], one.get("baseline"), one["size"], one["label"])
                wanted |= {(*place, found["estimand"], found["method"], found["value"], found["low"]) for found in one["estimates"]}
    got = {
        (
            *(row[name] or None for name in ("kind", "test_set", "arm", "baseline", "size", "label", "estimand", "method")),
            float(row["estimate"]),
            float(row["low"]),
        )
        for row in rows(folder)
        if row["estimate"] and row["low"] and row["kind"] in ("cell", "difference")
    }
    assert {one for one in wanted if one[-1] is not None} == got
    assert len(got) > 300


def test_each_row_has_a_name_of_its_own_and_one_headline_a_cell(written: tuple[Report, Path]) -> None:
    report, folder = written
    found = rows(folder)
    names = [row["key"] for row in found]
    assert len(set(names)) == len(names)
    cells = [row for row in found if row["kind"] in ("cell", "difference")]
    assert sum(row["headline"] == "true" for row in cells) == sum(
        len(group) for group in (report.cells, report.label_cells, report.differences, report.label_differences)
    )
    assert "phantom/pretrain-real/64/auroc_macro" in names
    assert "phantom/pretrain-real-vs-no-pretraining/256/auroc/edema" in names
    assert "phantom/no-pretraining/64/auroc_macro@crossed_bootstrap" in names


def test_rows_say_how_many_and_what_is_missing(written: tuple[Report, Path]) -> None:
    report, folder = written
    found = {row["key"]: row for row in rows(folder)}
    gap = found["phantom/pretrain-scrambled/256/auroc_macro"]
    assert (gap["n_draws"], gap["n_planned"], gap["status"]) == ("4", "5", "missing_runs")
    edema = next(info for info in report.test_sets[0].labels if info.name == "edema")
    row = found["phantom/no-pretraining/64/auroc/edema"]
    assert (row["n_pos"], row["n_neg"], row["n_patients"], row["unit"]) == (str(edema.n_positive), str(edema.n_negative), "120", "patients")
    assert found["phantom/no-pretraining/64/auroc_macro@patient_bootstrap"]["B"] == "400"
    assert found["phantom/no-pretraining/64/auroc_macro"]["B"] == ""


def test_an_arm_of_which_nothing_is_there_has_a_row(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, gaps=5, patients=120)
    row = next(one for one in lines.lines(build(plan, made.run)) if one.key == "phantom/pretrain-scrambled/256/auroc_macro")
    assert row.estimate is None
    assert set(row.status.split()) == {"missing_runs", "not_estimable"}


def test_a_chance_range_is_no_interval_of_an_area(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path)
    found = [line for line in lines.lines(build(plan, made.run)) if line.kind == "fold"]
    assert [line.low for line in found if line.headline] == [None, None, None]
    assert [line.estimate for line in found if line.estimand == "chance"] == [None, None, None]


def test_the_json_is_enough_to_make_every_page_again(written: tuple[Report, Path], tmp_path: Path) -> None:
    _, folder = written
    again = record.read(folder / "report.json")
    write(again, tmp_path)
    assert json.loads(record.text(again)) == json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for name in ("report.csv", "report.md", "report.html"):
        assert (tmp_path / name).read_text(encoding="utf-8") == (folder / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no report yet; type: orchestrate report"),
        ("{", "not JSON"),
        ("[]", "layout None"),
        ('{"schema": 99}', "layout 99 of a report, and this version reads"),
        (f'{{"schema": {record.SCHEMA}, "sweep": 1}}', "write it again"),
    ],
)
def test_what_is_no_report_is_refused_with_what_to_type(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ReportError, match=said):
        record.read(path)


def test_what_runs_alone_say_has_rows(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, patients=60, draws=4)
    report = build(plan, made.run)
    rows = {line.key: line for line in lines.lines(report)}
    start = "phantom/pretrain-real-vs-no-pretraining/64/auroc_macro"
    flips = next(
        one for one in report.replicate_tests if (one.method, one.size) == ("sign_flip", "count=64") and one.contrast == "after: none"
    )
    assert rows[f"{start}/sign_flip"].p == flips.p
    assert rows[f"{start}/sign_flip_smallest"].p == 2 / 2**4
    view = next(one for one in report.views if one.name == "probability_of_improvement" and one.size == "count=64")
    assert rows[f"{start}/probability_of_improvement"].estimate == view.value
    assert len({line.key for line in lines.lines(report)}) == len(lines.lines(report))
