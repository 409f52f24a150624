"""Keys of a config that go by the task of the card: the plan writes what they stand for."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from jobs.catalog import declaration_of
from jobs.spec import Stage
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from tests.orchestrator.planning import FakeResolver, jobs_of, only

CATALOG = {"classification": declaration_of("trainers.classification")}
TEXT = """
    sweep: s
    phases:
      a:
        trainer: classification
        config: {arch: slim%s}
        compare: {data: [several, classes]}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}]
"""


def plan_of(folder: Path, rest: str = "") -> Plan:
    path = folder / "sweep.yaml"
    path.write_text(dedent(TEXT % rest), encoding="utf-8")
    return expand(load_sweep(path, catalog=CATALOG), CATALOG, FakeResolver(tasks={"classes": "multiclass"}))


def test_the_loss_of_a_card_of_classes_is_a_softmaxs_and_no_other_job_changes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert only(plan, "a", data="classes").config["loss"] == "cross_entropy"
    several = only(plan, "a", data="several")
    assert "loss" not in several.config
    assert several.job_id == only(plan_of(tmp_path, ", loss: auto"), "a", data="several").job_id


def test_a_loss_that_a_sweep_names_stands_whatever_the_task(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ", loss: bce")
    assert {job.config["loss"] for job in jobs_of(plan, "a")} == {"bce"}
    assert only(plan, "a", data="classes").job_id != only(plan_of(tmp_path), "a", data="classes").job_id


def test_evaluations_and_picks_follow_the_job_that_they_are_of(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    train = only(plan, "a", data="classes")
    pick = only(plan, "a", Stage.PICK, data="classes")
    assert train.job_id in {item.job for item in pick.inputs}
