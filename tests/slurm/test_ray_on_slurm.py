"""One allocation of two nodes becomes a Ray cluster, a plan runs in it, and the allocation is given back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator.model import ClusterConfig, Partition, WholeNodes
from tests.orchestrator.standin import chain, job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def config(folder: Path) -> ClusterConfig:
    return replace(
        client.config(folder),
        backend="ray_on_slurm",
        partitions=(Partition(name="normal", gpus=2, cpus=2, memory_mb=8000, max_time_minutes=600),),
        allocation=WholeNodes(nodes=2, time_minutes=30),
    )


def test_a_plan_runs_on_both_nodes_and_the_allocation_is_given_back(tmp_path: Path, slurm: Cluster) -> None:
    cluster = config(tmp_path)
    lasting = [job(f"long{number}", config={"seconds": 4.0}) for number in range(4)]
    many = plan(*lasting, *(one for name in "ab" for one in chain(name)))
    done = client.hand_over(many, cluster, wait=True)
    assert done.counts == {State.SUCCEEDED: 10}
    assert set(map(tuple, client.ran(many, cluster).values())) == {(1,)}
    run = RunPaths(cluster.run_root)
    numbers = {json.loads(run.job(one.job_id).attempt(1).env.read_text())["slurm"]["SLURM_JOB_ID"] for one in many.jobs}
    assert len(numbers) == 1
    slurm.wait_until(lambda: not slurm.squeue(), what="the allocation is given back")
    assert client.hand_over(many, cluster, wait=True).submitted == 0


def test_a_requeue_saves_the_jobs_and_goes_on_in_a_new_ray(tmp_path: Path, slurm: Cluster) -> None:
    cluster = config(tmp_path)
    many = plan(*(job(f"long{number}", config={"seconds": 20.0}) for number in range(4)))
    client.hand_over(many, cluster, wait=False)
    run = RunPaths(cluster.run_root)
    progress = [run.job(one.job_id).folder / "progress" for one in many.jobs]
    slurm.wait_until(lambda: all(file.exists() for file in progress), timeout=400, what="every job works")
    (number,) = slurm.squeue()
    slurm.requeue(number)
    done = client.hand_over(many, cluster, wait=True)
    assert done.counts == {State.SUCCEEDED: 4}
    assert all(len(attempts) == 2 for attempts in client.ran(many, cluster).values())
