"""Plans on the real cluster, from sbatch to results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import Stage, State
from orchestrator.backends import base
from orchestrator.decide import Request, Why
from orchestrator.model import Limits
from orchestrator.submit import preview, within_limits
from tests.orchestrator.standin import chain, job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster
from tests.slurm.endings import submissions


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def test_chains_run_to_their_end_and_a_second_submission_runs_nothing(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    many = plan(*(one for name in "abc" for one in chain(name)))
    done = client.hand_over(many, cluster, wait=True)
    assert done.counts == {State.SUCCEEDED: 9}
    assert set(map(tuple, client.ran(many, cluster).values())) == {(1,)}
    # Results are there a moment before their allocations have ended.
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    assert client.hand_over(many, cluster, wait=True).submitted == 0
    assert not list((cluster.run_root / "submissions").glob("*.json"))


def test_what_the_queue_does_not_take_waits_in_the_plan_and_the_next_call_hands_it_over(tmp_path: Path, slurm: Cluster) -> None:
    limits = Limits(max_queued=4)
    held = replace(client.config(tmp_path, extra={"hold": "true"}), limits=limits)
    over = plan(*(one for name in "abc" for one in chain(name)))
    run, backend = RunPaths(held.run_root), base.load(held)
    assert len(preview(over, run, backend, within_limits(None, held, backend)).submission.jobs) == 4
    first = client.hand_over(over, held, wait=False)
    assert (first.submitted, first.counts) == (4, {State.SUBMITTED: 4, State.NEW: 5})
    assert Counter(first.kept.values()) == {Why.IN_FLIGHT: 4, Why.QUEUE_FULL: 5}
    assert client.hand_over(over, held, wait=False).submitted == 0, "the queue is as full as before"
    for native in slurm.squeue():
        slurm.run("scontrol", "release", native)
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    cluster = replace(client.config(tmp_path), limits=limits)
    assert client.hand_over(over, cluster, wait=False).submitted == 4
    # Who waits hands over the rest as places become free.
    done = client.hand_over(over, cluster, wait=True)
    assert (done.submitted, done.counts) == (1, {State.SUCCEEDED: 9})
    assert set(map(tuple, client.ran(over, cluster).values())) == {(1,)}


def test_what_somebody_took_out_of_the_queue_takes_what_waits_for_it_along_and_the_next_call_hands_over_both(
    tmp_path: Path, slurm: Cluster
) -> None:
    parent = job("parent")
    over = plan(parent, job("child", (parent,), phase="later"))
    client.hand_over(over, client.config(tmp_path, extra={"hold": "true"}), wait=False)
    waiting = sorted(slurm.squeue(), key=int)
    assert len(waiting) == 2
    slurm.run("scancel", waiting[0])
    # The child would wait for ever with DependencyNeverSatisfied, or until somebody cancels it.
    slurm.wait_until(lambda: not slurm.squeue(), what="for Slurm to take the child out too")
    done = client.hand_over(over, client.config(tmp_path), wait=True)
    assert (done.submitted, done.counts) == (2, {State.SUCCEEDED: 2})


def test_a_failed_parent_takes_its_children_along_and_nobody_elses(tmp_path: Path) -> None:
    cluster = client.config(tmp_path)
    good, bad = job("good"), job("bad", config={"fail": "ERROR"})
    children = [job(f"{parent.trial}/{number}", (parent,), phase="later") for parent in (good, bad) for number in range(2)]
    over = plan(good, bad, *children)
    done = client.hand_over(over, cluster, wait=True)
    found = {one.trial: done.states[one.job_id].state for one in over.jobs}
    assert found == {
        "good": State.SUCCEEDED,
        "bad": State.FAILED,
        "good/0": State.SUCCEEDED,
        "good/1": State.SUCCEEDED,
        "bad/0": State.NEW,
        "bad/1": State.NEW,
    }
    assert client.ran(over, cluster)["bad/0"] == []


def test_a_failed_evaluation_takes_no_other_of_its_allocation_along(tmp_path: Path) -> None:
    cluster = client.config(tmp_path)
    train = job("a/train")
    pick = job("a/pick", (train,), stage=Stage.PICK)
    bad, good = (
        job(f"a/{name}", (pick,), stage=Stage.EVALUATE, config=config)
        for name, config in (("bad", {"fail": "ERROR", "fail_on": [1]}), ("good", {}))
    )
    over = plan(train, pick, bad, good)
    done = client.hand_over(over, cluster, wait=True)
    assert (done.submitted, submissions(cluster)) == (4, 1)
    assert [done.states[one.job_id].state for one in over.jobs] == [State.SUCCEEDED, State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert client.hand_over(over, cluster, wait=True, request=Request(resume=True)).counts == {State.SUCCEEDED: 4}
    assert client.ran(over, cluster) == {"a/train": [1], "a/pick": [1], "a/bad": [1, 2], "a/good": [1]}
