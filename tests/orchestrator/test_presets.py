"""Presets: what a name sets, below what, and that the same values are the same job however they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import JobSpec, Scalar, Stage
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.expansion.sampling import sample
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver, jobs_of, only, plan_of, read

ONE = "sweep: s\ndata: d\nphases: {a: {trainer: moco_cxr%s}}\n"
CHAIN = """
    sweep: s
    data: d
    compare: {preset: [plain, release, recommended]}
    phases:
      pretrain: {trainer: moco_cxr, config: {px: 64}}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none]}
        config: {px: 64}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}]
"""


def one(folder: Path, rest: str) -> JobSpec:
    (job,) = plan_of(folder, ONE % rest).jobs
    return job


def trains(plan: Plan, phase: str, **labels: Scalar) -> list[JobSpec]:
    return jobs_of(plan, phase, Stage.TRAIN, **labels)


def test_a_preset_sets_its_values_and_leaves_the_defaults_elsewhere(tmp_path: Path) -> None:
    job = one(tmp_path, ", preset: release")
    assert (job.config["lr"], job.config["collapse_guard"], job.config["milestones"]) == (1e-4, False, [12, 18, 24])
    assert job.config["batch_size"] == 16
    assert "preset" not in job.config and "preset" not in job.labels


def test_default_preset_config_axis_and_when_come_in_this_order(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: moco_cxr
            preset: recommended
            config: {batch_size: 8}
            compare: {lr: [1e-2, 1e-1]}
            when: [{if: {lr: 1e-1}, set: {queue_size: 8}}]
        """,
    )
    first, second = plan.jobs
    assert [(job.config["batch_size"], job.config["lr"]) for job in plan.jobs] == [(8, 1e-2), (8, 1e-1)]
    assert (first.config["queue_size"], second.config["queue_size"]) == (24576, 8)
    swapped = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: moco_cxr
            config: {batch_size: 8}
            compare: {lr: [1e-2], preset: [recommended, release]}
            when: [{if: {preset: release}, set: {collapse_guard: true, milestones: [1]}}]
        """,
    )
    found = {job.labels["preset"]: job.config for job in swapped.jobs}
    assert [(config["batch_size"], config["lr"]) for config in found.values()] == [(8, 1e-2), (8, 1e-2)]
    assert (found["release"]["collapse_guard"], found["release"]["milestones"]) == (True, [1])


def test_the_same_values_are_the_same_job_however_they_came(tmp_path: Path) -> None:
    named = one(tmp_path, ", preset: release")
    written = one(tmp_path, ", config: {lr: 1e-4, collapse_guard: false, milestones: [12, 18, 24]}")
    (axis,) = plan_of(tmp_path, ONE % ", compare: {preset: [release]}").jobs
    assert named.job_id == written.job_id == axis.job_id
    assert axis.labels == {"preset": "release"}
    assert one(tmp_path, ", preset: plain").job_id == one(tmp_path, "").job_id


def test_a_key_that_came_later_leaves_ids_alone_where_a_preset_sets_it_to_what_was(tmp_path: Path) -> None:
    text = "sweep: s\ndata: d\nphases: {a: {trainer: classification%s}}\n"
    (bare,) = plan_of(tmp_path, text % "").jobs
    (plain,) = plan_of(tmp_path, text % ", preset: plain").jobs
    (released,) = plan_of(tmp_path, text % ", preset: release").jobs
    assert plain.job_id == bare.job_id and "uncertain" not in bare.config
    assert (released.config["uncertain"], released.config["weight_decay"]) == ("ignore", 0.0)


def test_a_top_level_axis_sets_presets_in_every_phase_that_has_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, CHAIN)
    assert [job.config["lr"] for job in trains(plan, "pretrain")] == [1e-4, 1e-4, 1e-3]
    assert len(trains(plan, "finetune")) == 6
    for preset, lr in (("plain", 3e-4), ("release", 1e-4), ("recommended", 1e-3)):
        child = only(plan, "finetune", preset=preset, after="pretrain")
        assert child.config["lr"] == only(plan, "finetune", preset=preset, after="none").config["lr"] == lr
        assert child.inputs[0].job == only(plan, "pretrain", preset=preset).job_id
    assert [axis.values for axis in plan.axes if axis.name == "preset"] == [("plain", "release", "recommended")]


def test_a_phase_whose_trainer_has_none_is_not_multiplied(tmp_path: Path) -> None:
    text = """
    sweep: s
    data: d
    compare: {preset: [plain, release]}
    phases:
      a: {trainer: classification}
      b: {trainer: segmentation}
    """
    plan = plan_of(tmp_path, text)
    assert len(trains(plan, "a")) == 2
    (lone,) = trains(plan, "b")
    assert "preset" not in lone.labels


def test_phases_of_another_sweep_keep_their_presets_and_their_ids(tmp_path: Path) -> None:
    base = "sweep: base\ndata: d\ncompare: {preset: [plain, release]}\nphases: {pretrain: {trainer: moco_cxr}}\n"
    own = {job.job_id for job in plan_of(tmp_path, base).jobs}
    (tmp_path / "base.yaml").write_text(base)
    using = "sweep: s\nuses: [base.yaml]\ndata: d\nphases: {b: {trainer: classification, preset: release, after: pretrain}}\n"
    (tmp_path / "using.yaml").write_text(using)
    plan = expand(load_sweep(tmp_path / "using.yaml", catalog=CATALOG), CATALOG, FakeResolver())
    assert {job.job_id for job in trains(plan, "pretrain")} == own
    children = trains(plan, "b")
    assert [job.labels["preset"] for job in children] == ["plain", "release"]
    assert {job.config["uncertain"] for job in children} == {"ignore"}


def test_presets_move_with_other_keys_in_a_zip(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ONE % ", compare: {zip: {preset: [plain, release], px: [64, 96]}}")
    assert [(job.labels["preset"], job.config["px"], job.config["collapse_guard"]) for job in plan.jobs] == [
        ("plain", 64, True),
        ("release", 96, False),
    ]


def test_a_tuned_key_that_came_later_is_handed_on_by_its_winner(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            tune: {uncertain: [card, ones]}
            seeds: 2
            pick: {metric: val/auroc_macro, scope: cell, on: {seed: [0]}}
        """,
    )
    (pick,) = [job for job in plan.jobs if job.stage is Stage.PICK and len(job.config["candidates"]) == 2]
    assert [candidate["overrides"] for candidate in pick.config["candidates"]] == [{"uncertain": "card"}, {"uncertain": "ones"}]
    (tuned,) = [job for job in plan.jobs if "tuned_keys" in job.config]
    assert tuned.config["tuned_keys"] == ["uncertain"] and "uncertain" not in tuned.config


def test_presets_that_differ_in_nothing_are_told(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as caught:
        plan_of(tmp_path, ONE % ", config: {lr: 1e-2, collapse_guard: true, milestones: [1]}, compare: {preset: [plain, release]}")
    assert "a/preset=plain and a/preset=release" in str(caught.value)
    assert "the presets plain and release differ here in no key that config, the axes and `when` leave to them" in str(caught.value)


def test_an_epoch_that_is_handed_on_is_kept_whatever_a_preset_keeps(tmp_path: Path) -> None:
    from dataclasses import replace
    from types import MappingProxyType

    from jobs.catalog import Declaration
    from trainers.classification import config as real

    released = Declaration(
        name="classification", version=1, config=real.Config, package="trainers.classification", presets=MappingProxyType(real.PRESETS)
    )
    catalog = {**CATALOG, "classification": replace(released, starts=("init",))}
    text = """
    sweep: s
    data: d
    phases:
      a: {trainer: classification, preset: release, hand_on: {epoch: 2}}
      b: {trainer: classification, after: a}
    """
    file = tmp_path / "x.yaml"
    file.write_text(text)
    plan = expand(load_sweep(file, catalog=catalog), catalog, FakeResolver())
    assert plan.jobs[0].config["keep_best"] == -1


def test_a_sample_keeps_what_presets_set_but_for_what_makes_a_run_long(tmp_path: Path) -> None:
    small, _ = sample(read(tmp_path, CHAIN + "    sample: {keep: {preset: [plain, release, recommended]}}\n"), CATALOG)
    plan = expand(small, CATALOG, FakeResolver(made_data=True), sampled=True)
    pretrains = trains(plan, "pretrain")
    assert [job.config["lr"] for job in pretrains] == [1e-4, 1e-4, 1e-3]
    assert {(job.config["epochs"], job.config["queue_size"]) for job in pretrains} == {(2, 32)}
    assert {job.config["epochs"] for job in trains(plan, "finetune")} == {2}
    usual, _ = sample(read(tmp_path, "sweep: s\ndata: d\nphases: {a: {trainer: moco_cxr}}\n"), CATALOG)
    (job,) = expand(usual, CATALOG, FakeResolver(made_data=True), sampled=True).jobs
    assert job.config["lr"] == 1e-2
