"""Plans on the real cluster, from sbatch to results."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import Stage, State
from orchestrator.decide import Request
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
