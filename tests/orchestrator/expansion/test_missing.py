"""`missing: skip` stands in the id of every job that opens data, and only where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.model import Plan
from tests.orchestrator.planning import CHAIN, plan_of


def choices(plan: Plan, phase: str) -> set[object]:
    """Return what the jobs of a phase do about missing images."""
    jobs = [job for job in plan.jobs if job.phase == phase and job.stage in (Stage.TRAIN, Stage.EVALUATE)]
    return {source.get("missing") for job in jobs for source in job.data["sources"]}


def test_refusing_is_written_nowhere(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, CHAIN)
    said = plan_of(tmp_path, CHAIN.replace("data: chexpert", "data: chexpert\n    missing: refuse", 1))
    assert choices(plain, "pretrain") == choices(plain, "finetune") == {None}
    assert [job.job_id for job in said.jobs] == [job.job_id for job in plain.jobs]


def test_a_sweep_that_skips_has_other_jobs(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, CHAIN)
    skipping = plan_of(tmp_path, CHAIN.replace("data: chexpert", "data: chexpert\n    missing: skip", 1))
    assert choices(skipping, "pretrain") == choices(skipping, "finetune") == {"skip"}
    assert len(skipping.jobs) == len(plain.jobs)
    assert not {job.job_id for job in skipping.jobs} & {job.job_id for job in plain.jobs}


def test_a_phase_may_differ_from_its_sweep(tmp_path: Path) -> None:
    text = CHAIN.replace("trainer: moco_cxr", "trainer: moco_cxr\n        missing: skip")
    plan = plan_of(tmp_path, text)
    assert choices(plan, "pretrain") == {"skip"}
    assert choices(plan, "finetune") == {None}


def test_the_floor_has_the_data_of_its_phase(tmp_path: Path) -> None:
    text = CHAIN.replace("data: chexpert", "data: chexpert\n    missing: skip\n    report: {floor: true}", 1)
    plan = plan_of(tmp_path, text)
    floors = {job.phase for job in plan.jobs} - {"pretrain", "finetune"}
    assert floors
    assert all(choices(plan, phase) == {"skip"} for phase in floors)


def test_another_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="missing"):
        plan_of(tmp_path, CHAIN.replace("data: chexpert", "data: chexpert\n    missing: ignore", 1))
