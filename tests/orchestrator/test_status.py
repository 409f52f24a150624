"""Rows for people and JSON for machines, from states alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import FailureKind, JobSpec, Stage, State
from orchestrator.ledger import JobStatus
from orchestrator.status import explain, status, status_of, to_json
from tests.orchestrator import client
from tests.orchestrator.standin import job, plan

TRAINS = tuple(job(f"t{n}") for n in range(4))
PICKS = tuple(job(f"p{n}", (train,), stage=Stage.PICK) for n, train in enumerate(TRAINS))
PLAN = plan(*TRAINS, *PICKS)


def took(spec: JobSpec, seconds: float) -> JobStatus:
    return JobStatus(job_id=spec.job_id, state=State.SUCCEEDED, attempt=1, started=100.0, ended=100.0 + seconds)


def states(*some: JobStatus) -> dict[str, JobStatus]:
    return {spec.job_id: JobStatus(job_id=spec.job_id, state=State.NEW) for spec in PLAN.jobs} | {one.job_id: one for one in some}


def test_counts_by_phase_and_stage() -> None:
    lost = JobStatus(job_id=TRAINS[1].job_id, state=State.FAILED, failure=FailureKind.DIVERGED)
    stopped = JobStatus(job_id=TRAINS[2].job_id, state=State.STOPPED, message="asha on val/loss: 0.9 at epoch 1 of 4 was losing")
    found = status_of(PLAN, states(took(TRAINS[0], 10), lost, stopped))
    trains, picks = found.groups
    assert (trains.stage, trains.total, trains.done, trains.lost) == (Stage.TRAIN, 4, 3, 1)
    assert trains.counts == {State.SUCCEEDED: 1, State.FAILED: 1, State.STOPPED: 1, State.NEW: 1}
    assert (picks.stage, picks.total, picks.done) == (Stage.PICK, 4, 0)
    assert (found.total, found.done) == (8, 3)
    assert found.jobs[2].message == stopped.message


def test_what_is_left_is_the_median_of_its_kind_less_what_was_spent() -> None:
    running = JobStatus(job_id=TRAINS[2].job_id, state=State.RUNNING, started=1000.0)
    known = [took(TRAINS[0], 10), took(TRAINS[1], 30), running, *(took(pick, 1) for pick in PICKS[:2])]
    found = status_of(PLAN, states(*known), now=1005.0)
    # One train job of 20 s of which 5 are spent, one that did not start, two picks of 1 s.
    assert found.work_left == pytest.approx(15 + 20 + 2)
    assert found.eta(2) == pytest.approx(37 / 2)
    assert status_of(PLAN, states(*known)).work_left == pytest.approx(20 + 20 + 2)


def test_nothing_is_foretold_for_a_kind_that_never_finished() -> None:
    assert status_of(PLAN, states(took(TRAINS[0], 10))).work_left is None
    assert status_of(PLAN, states(took(TRAINS[0], 10))).eta(2) is None


def test_a_job_that_overran_its_kind_counts_as_nothing_left() -> None:
    done = [took(spec, 10) for spec in (*TRAINS[:3], *PICKS)]
    slow = JobStatus(job_id=TRAINS[3].job_id, state=State.RUNNING, started=0.0)
    assert status_of(PLAN, states(*done, slow), now=500.0).work_left == 0.0


def test_a_failure_says_what_happened_and_what_to_do() -> None:
    assert explain(JobStatus(job_id="j", state=State.SUCCEEDED)) == ""
    failed = JobStatus(job_id="j", state=State.FAILED, failure=FailureKind.DISK_FULL, message="cannot write x")
    assert explain(failed) == "cannot write x (the disk is full: free some space, and the next submit goes on from its checkpoint)"


def test_json_is_plain_and_whole(tmp_path: Path) -> None:
    over = client.chains("c", 0.0, 2)
    client.run_here(over, tmp_path)
    content = json.loads(json.dumps(to_json(status(over, RunPaths(tmp_path))), allow_nan=False))
    assert content["counts"] == {"SUCCEEDED": 6}
    assert content["done"] == content["total"] == len(content["jobs"]) == 6
    assert content["work_left_seconds"] == 0.0
    assert all(row["attempt"] == 1 and row["seconds"] >= 0 and row["failure"] is None for row in content["jobs"])
