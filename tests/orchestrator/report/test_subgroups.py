"""Subgroups: the same answers as a report of their rows alone, what is thin marked, what is not there said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.report.analysis import analyse, build
from orchestrator.report.files.inputs import Asked, inputs_of_files
from orchestrator.report.layout import sections
from orchestrator.report.lines import lines
from orchestrator.report.record import parse, text
from orchestrator.report.render import html, markdown
from orchestrator.report.subgroups.parting import part
from orchestrator.report.subgroups.values import SubgroupEstimate
from orchestrator.report.values import Report
from orchestrator.report.wording import number
from tests.orchestrator.report.files.made_files import having, joined, scores, write
from tests.orchestrator.report.made_run import quickstart


def study(**more: Any) -> dict[str, Any]:
    """Make two arms of three matched draws with a column sex, by patient, and an age."""
    runs = [
        having(scores(separation, seed=draw + seed, images_a_patient=2, labels=("edema", "mass")), arm=arm, draw=draw)
        for arm, separation, seed in (("a", 2.5, 9), ("b", 0.8, 0))
        for draw in range(3)
    ]
    whole = joined(*runs)
    patient = np.array([int(name[1:]) for name in whole["patient"]])
    return having(whole, **{"sex": np.where(patient % 2 == 0, "F", "M"), "age": 20 + patient % 70, **more})


def report_of(path: Path, *columns: str, **asked: Any) -> Report:
    return analyse(inputs_of_files([path], Asked(**{"resamples": 200, "baseline": "b", "subgroups": columns, **asked})))


def of(report: Report, arm: str, value: str, baseline: str | None = None) -> SubgroupEstimate:
    return next(one for one in report.subgroups.estimates if (one.arm, one.value, one.baseline) == (arm, value, baseline))


def test_a_subgroup_is_answered_as_its_rows_alone_are(tmp_path: Path) -> None:
    whole = study()
    report = report_of(write(tmp_path / "x.csv", whole), "sex")
    for value in ("F", "M"):
        kept = {name: values[whole["sex"] == value] for name, values in whole.items()}
        alone = report_of(write(tmp_path / f"{value}.csv", kept))
        for cell in alone.cells:
            one = of(report, cell.arm, value)
            assert (one.estimate, one.low, one.high, one.method) == (
                pytest.approx(cell.estimate, abs=1e-12),
                pytest.approx(cell.low, abs=1e-12),
                pytest.approx(cell.high, abs=1e-12),
                cell.method,
            )
        (gap,) = alone.differences
        one = of(report, "a", value, "b")
        assert (one.estimate, one.low, one.p) == (
            pytest.approx(gap.estimate, abs=1e-12),
            pytest.approx(gap.low, abs=1e-12),
            pytest.approx(gap.p, rel=1e-9),
        )
        assert (one.family, one.n_replicates) == (2, 3)
        assert one.p_adjusted is not None
        assert one.p is not None
        assert one.p_adjusted >= one.p
    groups = {group.value: group for group in report.subgroups.groups}
    assert (groups["F"].n_units, groups["F"].n_clusters, groups["F"].n_findings) == (80, 40, 2)


def test_nothing_is_parted_that_was_not_asked_for(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "x.csv", study()))
    assert report.subgroups.groups == ()
    assert report.subgroups.notes == ()


def test_ages_have_bands_that_the_data_does_not_move() -> None:
    found = part("age", np.array(["5", "18", "39", "40", "59.5", "60", "81", ""], dtype=object))
    assert found is not None
    assert found.values == ("below 18", "18 to below 40", "40 to below 60", "60 to below 80", "80 and above")
    assert found.of_unit.tolist() == [
        "below 18",
        "18 to below 40",
        "18 to below 40",
        "40 to below 60",
        "40 to below 60",
        "60 to below 80",
        "80 and above",
        "",
    ]


def test_other_numbers_are_parted_at_their_quartiles_and_few_as_they_are() -> None:
    found = part("dose", np.array([str(value) for value in range(100)], dtype=object))
    assert found is not None
    assert len(found.values) == 4
    assert {int((found.of_unit == value).sum()) for value in found.values} == {25}
    few = part("beds", np.array(["10", "2", "1", "2"], dtype=object))
    assert few is not None
    assert few.values == ("1", "2", "10")
    assert part("name", np.array([f"n{index}" for index in range(13)], dtype=object)) is None


def test_what_is_unknown_is_counted_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    whole = study()
    whole["sex"] = np.where(whole["image"] < "0004", "", whole["sex"])
    whole["site"] = np.char.add("s", whole["patient"])
    report = report_of(write(tmp_path / "x.csv", whole), "sex", "scanner", "site")
    assert report.subgroups.notes == (
        "Test set: no subgroups by 'scanner', because the predictions have no such column; they have age, sex, site.",
        "Test set: column 'sex' is not known of 4 of 160 units; they are in no subgroup.",
        "Test set: column 'site' has more than 12 values that are no numbers, so it makes no subgroups.",
    )
    assert set(report.subgroups.notes) <= set(report.warnings)
    assert {one.column for one in report.subgroups.estimates} == {"sex"}


def test_arms_that_disagree_about_a_column_make_no_subgroups(tmp_path: Path) -> None:
    whole = study()
    whole["sex"] = np.where((whole["arm"] == "b") & (whole["image"] == "0007"), "F", whole["sex"])
    report = report_of(write(tmp_path / "x.csv", whole), "sex")
    assert report.subgroups.groups == ()
    assert "no subgroups by 'sex', because runs disagree about it" in report.subgroups.notes[0]


def test_small_subgroups_have_a_status_and_no_number_they_do_not_have(tmp_path: Path) -> None:
    whole = study()
    site = np.where(whole["patient"] == "p0", "one", np.where(np.isin(whole["patient"], ["p1", "p2", "p3", "p4"]), "few", "rest"))
    report = report_of(write(tmp_path / "x.csv", having(whole, site=site)), "site")
    groups = {group.value: group for group in report.subgroups.groups}
    assert groups["one"].status == ("not_estimable",)
    assert "few_cases" in groups["few"].status or "not_estimable" in groups["few"].status
    assert groups["rest"].status == ()
    alone = of(report, "a", "one")
    assert (alone.low, alone.high) == (None, None)
    assert "not_estimable" in alone.status
    assert "NaN" not in text(report)


def test_a_finding_that_a_subgroup_has_no_case_of_is_left_out_and_counted(tmp_path: Path) -> None:
    whole = study()
    healthy = (whole["sex"] == "M") & (whole["label"] == "mass")
    whole["truth"] = np.where(healthy, 0, whole["truth"])
    report = report_of(write(tmp_path / "x.csv", whole), "sex")
    groups = {group.value: group for group in report.subgroups.groups}
    assert (groups["M"].n_findings, groups["M"].n_findings_overall) == (1, 2)
    (section,) = sections(report)
    assert "over 1 of 2 findings" in markdown(report, (section,))


def test_the_page_the_csv_and_the_json_show_the_same(tmp_path: Path) -> None:
    report = report_of(write(tmp_path / "x.csv", study()), "sex", "age")
    assert parse(text(report)).subgroups.groups == report.subgroups.groups
    (section,) = sections(report)
    block = next(one for one in section.blocks if one.key == "subgroups")
    assert [table.caption.partition(",")[0] for table in block.panels[0].tables] == [
        "Macro AUROC by sex",
        "Differences in macro AUROC by sex",
        "Macro AUROC by age",
        "Differences in macro AUROC by age",
    ]
    assert block.panels[0].tables[0].rows[0].entries[2].text == number(of(report, "a", "F").estimate)
    rows = {line.key: line for line in lines(report) if line.kind == "subgroup"}
    assert rows["test/a-vs-b/all/auroc_macro/sex/f"].estimate == of(report, "a", "F", "b").estimate
    assert "Subgroups" in html(report, (section,))


def test_a_sweep_whose_predictions_carry_no_column_says_what_to_do(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, draws=2, patients=60)
    report = build(replace(plan, report=replace(plan.report, subgroups=("sex",))), made.run)
    assert any("name it under `traits` in the card and submit the sweep again" in warning for warning in report.warnings)
