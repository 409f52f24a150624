"""The small job that goes on with a sweep while everybody is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import ledger
from tests.orchestrator.standin import job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def test_a_keeper_goes_on_with_what_was_killed_and_ends_by_itself(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path, keeper=True)
    many = plan(job("first", config={"seconds": 8.0}), job("second", config={"seconds": 1.0}))
    client.hand_over(many, cluster, wait=False)
    run = RunPaths(cluster.run_root)
    progress = run.job(many.jobs[0].job_id).folder / "progress"
    slurm.wait_until(progress.exists, timeout=120, what="the first job works")
    assert client.hand_over(many, cluster, wait=False).submitted == 0
    keepers = slurm.run("squeue", "--noheader", "--name=orch-keep-toy", "--format=%A").stdout.split()
    assert len(keepers) == 1
    works = [key for key, state in slurm.squeue().items() if state == "RUNNING" and key.split("_")[0] not in keepers]
    slurm.run("scancel", "--signal=KILL", "--full", *works)
    slurm.wait_until(lambda: not slurm.squeue(), timeout=240, what="the keeper has brought it to its end")
    found = ledger.states(run, [one.job_id for one in many.jobs])
    assert {status.state for status in found.values()} == {State.SUCCEEDED}
    assert client.ran(many, cluster)["first"] == [1, 2]
