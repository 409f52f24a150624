"""What a job is, which code runs it, and why it would run again; plans as files."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.spec import JobSpec, Stage, State, canonical_json, spec_to_json
from orchestrator.arms import arms
from orchestrator.errors import IdentityError, LedgerError
from orchestrator.expand import expand
from orchestrator.identity import (
    CodeVersion,
    code_version,
    config_digest,
    diff_specs,
    environment_hash,
    plan_changes,
    refuse_mismatch,
)
from orchestrator.model import Plan
from orchestrator.plans import plan_text, read_plan, write_plan
from orchestrator.reference import own_trainers
from tests.orchestrator.planning import FakeResolver, jobs_of, plan_of, read

TEXT = """
    sweep: study
    about: "A question: does it hälp?"
    data: chexpert
    phases:
      pretrain: {trainer: moco_cxr, config: {temperature: 0.2}, tune: {lr: [1e-5, 1e-4]}}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none], labels: [[edema], [edema, effusion]]}
        draws: {fraction: [0.1], repeats: 2}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}]
    report: {measure: {default: auroc_macro, finetune: auprc}, baseline: [{after: none}], over: fraction, floor: true,
             groups: {one: {after: pretrain}, other: [{after: none}]}, reference: [{value: 0.9, source: "a paper"}], notes: [careful]}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, TEXT)


def test_a_plan_is_read_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "run" / "plan.json"
    write_plan(path, plan)
    again = read_plan(path)
    assert again == plan
    assert plan_text(again) == path.read_text(encoding="utf-8") == plan_text(plan)
    assert arms(again) == arms(plan)
    assert [arm.name for arm in arms(again)] == [arm.name for arm in arms(plan)]
    assert "hälp" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: text.replace('"version": 1', '"version": 99'), lambda _: "{}"]
)
def test_a_file_that_is_no_plan_says_so(plan: Plan, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "plan.json"
    path.write_text(damage(plan_text(plan)), encoding="utf-8")
    with pytest.raises(LedgerError, match="not a plan"):
        read_plan(path)


def test_a_config_has_one_digest(plan: Plan) -> None:
    config = dict(plan.jobs[0].config)
    shuffled = dict(reversed(config.items()))
    assert config_digest(config) == config_digest(shuffled)
    assert config_digest(config) != config_digest({**config, "lr": 0.5})


# --- why again


def test_a_diff_names_the_keys_that_differ(plan: Plan) -> None:
    job = jobs_of(plan, "pretrain")[0]
    stored = spec_to_json(job)
    assert diff_specs(stored, job) == []
    stored["config"] = {**stored["config"], "temperature": 0.1, "old": 1}
    del stored["config"]["px"]
    stored["trainer_version"] = 2
    stored["resources"] = {**stored["resources"], "gpus": 4}
    assert diff_specs(stored, job) == [
        "trainer version: 2 -> 1",
        "config.temperature: 0.1 -> 0.2",
        "config.old: 1, now left out",
        "config.px: was not there, now 320",
    ]


def test_one_id_with_two_meanings_is_refused_with_both_ways_out(plan: Plan) -> None:
    job = jobs_of(plan, "pretrain")[0]
    stored = spec_to_json(job)
    refuse_mismatch(stored, job)
    stored["config"] = {**stored["config"], "momentum": 0.99}
    with pytest.raises(IdentityError) as raised:
        refuse_mismatch(stored, job)
    assert str(raised.value) == (
        f"job {job.short_id} (pretrain/lr=1e-05) is stored with another meaning: config.momentum: 0.99 -> 0.999. "
        "Either raise VERSION of the trainer 'moco_cxr', so that its jobs get new ids, or pin the old value in the sweep"
    )
    refuse_mismatch({**stored, "job_id": "0" * 64}, job)


def done(*jobs: JobSpec) -> dict[str, State]:
    return dict.fromkeys((job.job_id for job in jobs), State.SUCCEEDED)


def test_everything_is_new_to_an_empty_run_root(plan: Plan) -> None:
    found = plan_changes(plan, None, {})
    assert found.new == plan.jobs
    assert found.counts == {"new": len(plan.jobs), "reused": 0, "changed": 0, "unfinished": 0, "gone": 0}


def test_what_is_done_is_reused_and_the_rest_is_unfinished(plan: Plan) -> None:
    finished = jobs_of(plan, "pretrain")
    found = plan_changes(plan, plan, done(*finished) | {plan.jobs[-1].job_id: State.FAILED})
    assert list(found.reused) == finished
    assert len(found.unfinished) == len(plan.jobs) - len(finished)
    assert not found.new
    assert not found.changed
    assert not found.gone


def test_a_job_that_another_sweep_ran_is_reused(plan: Plan) -> None:
    found = plan_changes(plan, None, done(plan.jobs[0]))
    assert found.reused == plan.jobs[:1]


def test_a_changed_key_says_why_and_what_follows_says_from_where(plan: Plan, tmp_path: Path) -> None:
    edited = plan_of(tmp_path, TEXT.replace("temperature: 0.2", "temperature: 0.3"))
    found = plan_changes(edited, plan, done(*plan.jobs))
    why = {(one.job.phase, one.job.stage): one.why for one in found.changed}
    assert why["pretrain", Stage.TRAIN] == ("config.temperature: 0.2 -> 0.3",)
    assert why["finetune", Stage.TRAIN] == ("its input pretrain/lr=0.0001 changed",)
    assert why["finetune", Stage.PICK][0].startswith("its input finetune/lr=1e-05,after=pretrain")
    assert why["finetune", Stage.PICK][0].endswith(" changed and 1 more")
    assert why["finetune", Stage.EVALUATE][0].startswith("its input finetune/after=pretrain")
    assert {one.before.job_id for one in found.changed} <= {job.job_id for job in plan.jobs}
    # The arm without pretraining, and the floor, did not change.
    kept = [job for job in edited.jobs if job.labels.get("after") in ("none", "floor")]
    assert list(found.reused) == kept
    assert not found.new
    assert not found.gone
    assert len(found.changed) + len(found.reused) == len(edited.jobs)


def test_a_smaller_micro_batch_makes_new_jobs_of_the_whole_phase(tmp_path: Path) -> None:
    text = """
        sweep: study
        data: chexpert
        phases:
          finetune:
            trainer: classification
            config: {batch_size: 16}
            tune: {lr: [1e-4, 1e-3]}
            pick: {metric: val/auroc_macro}
            evaluate: [{data: same, split: test}]
        """
    before, after = (
        expand(read(tmp_path, written, catalog=own_trainers()), own_trainers(), FakeResolver())
        for written in (text, text.replace("batch_size: 16", "batch_size: 16, micro_batch: 4"))
    )
    found = plan_changes(after, before, done(*before.jobs))
    assert len(found.changed) == len(after.jobs)
    assert {one.why for one in found.changed if one.job.stage is Stage.TRAIN} == {("config.micro_batch: 0 -> 4",)}


def test_values_that_come_and_go(plan: Plan, tmp_path: Path) -> None:
    edited = plan_of(tmp_path, TEXT.replace("repeats: 2", "repeats: 3").replace("[[edema], [edema, effusion]]", "[[edema]]"))
    found = plan_changes(edited, plan, done(*plan.jobs))
    assert {job.labels["draw"] for job in found.new} == {2}
    assert {job.labels.get("labels") for job in found.gone} == {canonical_json(["edema", "effusion"])}
    assert not found.changed
    assert {job.job_id for job in found.reused} == {job.job_id for job in edited.jobs} & {job.job_id for job in plan.jobs}


def test_other_label_files_change_every_job_that_reads_them(plan: Plan, tmp_path: Path) -> None:
    edited = plan_of(tmp_path, TEXT, FakeResolver(salt="new"))
    found = plan_changes(edited, plan, done(*plan.jobs))
    assert len(found.changed) == len(edited.jobs)
    whys = {one.why[0].split(":")[0] for one in found.changed if one.job.stage is not Stage.PICK}
    assert whys == {"data.sources[0].card_sha256"}


# --- code and environment


def test_the_code_version_is_a_commit_and_says_when_it_is_not(tmp_path: Path) -> None:
    assert code_version(tmp_path) == CodeVersion(package=code_version(tmp_path).package)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1", encoding="utf-8")
    git("add", "a")
    git("commit", "-qm", "one")
    clean = code_version(tmp_path)
    assert clean.git_sha == git("rev-parse", "HEAD")
    assert not clean.dirty
    assert str(clean) == f"{clean.package}+g{clean.git_sha[:12]}"
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert str(code_version(tmp_path)) == f"{clean}.dirty"
    # A folder inside somebody else's repository (site-packages in a project) is not that commit.
    (tmp_path / "inner").mkdir()
    assert code_version(tmp_path / "inner").git_sha is None


def test_the_environment_has_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment_hash()
    assert before == environment_hash()
    monkeypatch.setattr("sys.version", "9.9.9 made up")
    assert environment_hash() != before


def test_resources_and_names_are_not_in_the_id(plan: Plan) -> None:
    job = plan.jobs[0]
    renamed = replace(job, sweep="other", phase="other", trial="other", labels={"a": 1}, resources=replace(job.resources, gpus=8, cpus=64))
    assert canonical_json(renamed.identity()) == canonical_json(job.identity())


def test_a_trait_that_a_card_declares_later_evaluates_again_and_trains_nothing_again(tmp_path: Path) -> None:
    def ids(plan: Plan, stage: Stage) -> list[str]:
        return [one.job_id for one in plan.jobs if one.stage is stage]

    plain, told = plan_of(tmp_path, TEXT), plan_of(tmp_path, TEXT, FakeResolver(traits={"sex": "Sex", "age": "Age"}))
    assert ids(plain, Stage.TRAIN) == ids(told, Stage.TRAIN)
    assert ids(plain, Stage.PICK) == ids(told, Stage.PICK)
    assert not set(ids(plain, Stage.EVALUATE)) & set(ids(told, Stage.EVALUATE))
    assert all(one.config["traits"] == {"age": "Age", "sex": "Sex"} for one in told.jobs if one.stage is Stage.EVALUATE)
    assert all("traits" not in one.config for one in plain.jobs)
    turned = plan_of(tmp_path, TEXT, FakeResolver(traits={"age": "Age", "sex": "Sex"}))
    assert ids(turned, Stage.EVALUATE) == ids(told, Stage.EVALUATE)
