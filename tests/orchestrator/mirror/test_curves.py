"""The sweep's own run: its curves, its note, its artifacts."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from jobs.spec import pretty_json
from orchestrator import tracking
from orchestrator.mirror.curves import NOTE_LENGTH, curve_points, report_entry
from orchestrator.model import Plan
from orchestrator.report import values
from orchestrator.report.analysis import build
from orchestrator.report.provenance import provenance
from orchestrator.report.record import record
from orchestrator.report.render import write
from tests.orchestrator.mirror.mirrored import client_of, export, rebuilt, runs_of
from tests.orchestrator.mirror.played import Player
from tests.orchestrator.report.made_run import quickstart


def made(kind: type, **given: object) -> Any:
    """Make a value of the report of which only some fields matter here; a field that is gone is an error."""
    return kind(**{item.name: given.get(item.name) for item in fields(kind)} | given)


def report_of(*, low: float = 0.6, sets: tuple[str, ...] = ("phantom",)) -> dict[str, Any]:
    """Make a report through its own types, so that these tests fail when what a curve is made from changes."""
    titles = {"pretrain": "MoCo · real", "none": "no pretraining"}
    arms = tuple(made(values.ArmInfo, key=f"finetune/after={after}", title=title) for after, title in titles.items())
    cells = [
        made(
            values.Cell,
            test_set=one,
            arm=arm.key,
            measure="auroc_macro",
            estimate=low + (0.15 if "pretrain" in arm.key else 0.1),
            low=low,
            high=None if images == 200.0 else low + 0.2,
            n_labeled=images,
        )
        for one in sets
        for arm in arms
        for images in (20.4, 200.0)
    ]
    missing = replace(cells[0], n_labeled=None, estimate=None, low=None, high=None)
    report = made(
        values.Report,
        title="play",
        about="Does it help?",
        made_data=True,
        n_planned=6,
        n_present=6,
        test_sets=tuple(made(values.TestSet, key=one, arms=arms) for one in sets),
        cells=(*cells, missing),
        label_cells=tuple(replace(cell, label="edema", measure="auroc") for cell in cells),
        verdicts=(made(values.Verdict, claim="No difference shown.", evidence="+0.01"),),
        warnings=(),
        schema=1,
    )
    return record(report)


def test_curves_are_series_over_the_number_of_labels() -> None:
    points = curve_points(report_of())
    assert [(point.key, point.step) for point in points] == [
        ("curve/MoCo - real/auroc_macro", 20),
        ("curve/MoCo - real/auroc_macro", 200),
        ("curve/MoCo - real/auroc_macro_hi", 20),
        ("curve/MoCo - real/auroc_macro_lo", 20),
        ("curve/MoCo - real/auroc_macro_lo", 200),
        ("curve/no pretraining/auroc_macro", 20),
        ("curve/no pretraining/auroc_macro", 200),
        ("curve/no pretraining/auroc_macro_hi", 20),
        ("curve/no pretraining/auroc_macro_lo", 20),
        ("curve/no pretraining/auroc_macro_lo", 200),
    ]
    assert [round(point.value, 6) for point in points[:4]] == [0.75, 0.75, 0.8, 0.6]


def test_test_sets_and_arms_that_read_the_same_stay_apart() -> None:
    report = report_of(sets=("phantom", "other card"))
    for one in report["test_sets"]:
        for arm in one["arms"]:
            arm["title"] = "same"
    heads = {point.key.rpartition("/")[0] for point in curve_points(report)}
    assert heads == {"curve/phantom/same", "curve/phantom/same 2", "curve/other card/same", "curve/other card/same 2"}


def write_report(run: RunPaths, report: dict[str, Any]) -> Path:
    folder = run.sweep("play").report
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(pretty_json(report), encoding="utf-8")
    (folder / "report.html").write_text("<h1>play</h1>", encoding="utf-8")
    return folder


def test_the_sweeps_run_holds_the_report(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    Player(run=run).play(plan.jobs)
    folder = write_report(run, report_of())
    synced = tracking.sync(plan, run)
    assert (synced.runs, synced.created) == (12, 12)
    one = runs_of(run, "play")["play report"]
    assert (one.data.tags["orch.kind"], one.info.status) == ("sweep", "FINISHED")
    assert "No difference shown. +0.01" in one.data.tags["mlflow.note.content"]
    assert "Made data" in one.data.tags["mlflow.note.content"]
    client = client_of(run)
    assert Path(client.download_artifacts(one.info.run_id, "report/report.html")).read_text() == "<h1>play</h1>"
    history = client.get_metric_history(one.info.run_id, "curve/no pretraining/auroc_macro_lo")
    assert [(point.step, point.value) for point in history] == [(20, 0.6), (200, 0.6)]
    assert tracking.sync(plan, run).updated == 0
    # A page that reads otherwise and says the same is one more upload; other numbers are another run.
    (folder / "report.html").write_text("<h1>prettier</h1>", encoding="utf-8")
    again = tracking.sync(plan, run)
    assert (again.updated, again.replaced) == (1, 0)
    assert runs_of(run, "play")["play report"].info.run_id == one.info.run_id
    write_report(run, report_of(low=0.5))
    changed = tracking.sync(plan, run)
    assert (changed.updated, changed.replaced, changed.removed) == (0, 1, 0)
    new = runs_of(run, "play")["play report"]
    assert [point.value for point in client.get_metric_history(new.info.run_id, "curve/no pretraining/auroc_macro_lo")] == [0.5, 0.5]
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_everything_that_a_report_writes_is_an_artifact(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, patients=120, draws=2)
    folder = write(build(plan, made.run), made.run.sweep("made").report, provenance(plan, made.run)).parent
    entry = report_entry(plan, made.run, time=0)
    assert entry is not None
    kinds = {name.removeprefix("report/").partition("/")[0] for name in entry.artifacts}
    whole = {"report.html", "report.md", "report.csv", "report.tex", "report.json", "checklist.md", "provenance.json", "figures", "tables"}
    assert kinds == whole == {path.name for path in folder.iterdir()}
    note = entry.tags["mlflow.note.content"]
    assert len(note) <= 8000
    assert "scores" in note and "report/report.html" in note
    assert {point.key for point in entry.points} >= {"curve/no pretraining/auroc_macro", "curve/pretrain - real/auroc_macro_lo"}


def note_of(plan: Plan, run: RunPaths, report: dict[str, Any]) -> str:
    write_report(run, report)
    entry = report_entry(plan, run, time=0)
    assert entry is not None
    return str(entry.tags["mlflow.note.content"])


@pytest.mark.parametrize("said", [7, 180, 1499, 8000])
def test_a_long_note_ends_with_a_whole_paragraph_and_says_what_is_not_in_it(plan: Plan, run: RunPaths, said: int) -> None:
    verdicts = [{"claim": f"Claim {index} " + "word " * (said // 5) + "end.", "evidence": f"proof {index}."} for index in range(200)]
    report = {**report_of(), "about": "Why. " * 900, "made_data": True, "verdicts": verdicts, "warnings": ["beware", "and of this"]}
    note = note_of(plan, run, report)
    assert len(note) <= NOTE_LENGTH
    paragraphs = note.split("\n\n")
    shown = [one for one in paragraphs if one.startswith("- Claim")]
    assert shown == [f"- {one['claim']} {one['evidence']}" for one in verdicts[: len(shown)]]
    left = 200 - len(shown)
    assert left > 0
    assert (
        paragraphs[-2] == f"*Not in this note: {left} more comparisons and 2 more warnings. They stand at the top of `report/report.html`.*"
    )
    assert paragraphs[-1].endswith("All of it: artifact `report/report.html`.")
    assert paragraphs[1] == "**Made data: the numbers say nothing about patients.**"


def test_a_short_note_leaves_nothing_out(plan: Plan, run: RunPaths) -> None:
    note = note_of(plan, run, {**report_of(), "warnings": ["beware"]})
    assert "- beware" in note and "Not in this note" not in note
    one_left = note_of(plan, run, {**report_of(), "verdicts": [], "warnings": ["a" * 3000, "b" * 3000, "c" * 3000]})
    assert "Not in this note: 1 more warning. " in one_left


def test_the_experiment_says_what_it_is(plan: Plan, run: RunPaths) -> None:
    tracking.sync(plan, run)
    experiment = client_of(run).get_experiment_by_name("play")
    assert experiment is not None
    note = experiment.tags["mlflow.note.content"]
    assert "Does MoCo help when labels are few?" in note
    assert "Made data" in note
    assert json.loads(json.dumps(experiment.tags))["orch.sweep"] == "play"
