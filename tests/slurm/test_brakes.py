"""What a mistake costs: the canary, the file that stops a sweep, and the budget of GPU-hours, on the real cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import JobSpec, Resources, State
from orchestrator.backends.slurm.usage import gpu_hours
from orchestrator.decide import Request, Why
from orchestrator.errors import BackendError
from orchestrator.exit_codes import EXIT_PERSON
from orchestrator.model import ClusterConfig, Limits, Plan
from tests.orchestrator.standin import job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster
from tests.slurm.endings import body, ends, finish

SMALL = Resources(cpus=1, memory_mb=500)


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def misspelt(typo: Path, count: int) -> Plan:
    """Return a sweep of jobs that all fail at the same place while a file is there."""
    typo.touch()
    config = {"fail": "ERROR", "fail_while": str(typo)}
    return plan(*(job(f"j{number}", config=config, resources=SMALL) for number in range(count)))


def bodies_run(over: Plan, cluster: ClusterConfig) -> int:
    return sum(map(len, client.ran(over, cluster).values()))


def assert_stopped(over: Plan, cluster: ClusterConfig, why: str) -> None:
    """See that `submit` says in one sentence why it hands nothing over."""
    with pytest.raises(BackendError, match=why) as caught:
        client.hand_over(over, cluster, wait=True)
    assert caught.value.exit_code == EXIT_PERSON
    assert "\n" not in str(caught.value)
    assert "type `orchestrate resume" in str(caught.value)


def test_a_typo_in_a_sweep_of_500_jobs_costs_one(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path, canary=10)
    over = misspelt(tmp_path / "typo", 500)
    followed = client.hand_over(over, cluster, wait=True)
    assert bodies_run(over, cluster) == 1
    assert (followed.submitted, followed.exit_code) == (500, 1)
    assert followed.counts == {State.FAILED: 1, State.NEW: 499}
    assert set(followed.kept.values()) == {Why.FAILED, Why.SWEEP_STOPPED}
    assert_stopped(over, cluster, "the first job, [0-9a-f]{12}, failed with 'ValueError: as told'")
    assert bodies_run(over, cluster) == 1


def stopped_in_time(tmp_path: Path, slurm: Cluster, count: int) -> tuple[Plan, ClusterConfig]:
    """Run a mistyped sweep until its third failure has stopped it."""
    cluster = client.config(tmp_path, stop_after=3, parallel=6)
    over = misspelt(tmp_path / "typo", count)
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: not slurm.squeue(), timeout=600, what="for the queue to be empty")
    # Those that were running when the third failed may have failed too; of the others none has begun.
    ran = bodies_run(over, cluster)
    assert 3 <= ran <= 3 + 6
    assert_stopped(over, cluster, "3 jobs failed at the same place, the last of them [0-9a-f]{12} with 'ValueError: as told'")
    assert bodies_run(over, cluster) == ran
    return over, cluster


def test_the_third_failure_of_a_kind_stops_the_sweep_until_a_person_resumes_it(tmp_path: Path, slurm: Cluster) -> None:
    over, cluster = stopped_in_time(tmp_path, slurm, 16)
    (tmp_path / "typo").unlink()
    assert_stopped(over, cluster, "3 jobs failed at the same place")
    # What goes on by itself, as a keeper does, does not do so either.
    with pytest.raises(BackendError, match="the sweep was stopped"):
        client.hand_over(over, cluster, wait=False, request=Request(resume=True, by_person=False))
    resumed = client.hand_over(over, cluster, wait=False, request=Request(resume=True))
    assert resumed.submitted == 16
    sweep = RunPaths(cluster.run_root).sweep(over.sweep)
    assert not sweep.stop.exists()
    assert not sweep.failures.exists()
    finish(slurm, cluster, over)


@pytest.mark.slow
def test_without_a_canary_a_typo_in_a_sweep_of_500_jobs_costs_a_few(tmp_path: Path, slurm: Cluster) -> None:
    stopped_in_time(tmp_path, slurm, 500)


def test_gpu_hours_stop_what_runs_after_saving_and_refuse_what_starts_and_what_is_submitted(tmp_path: Path, slurm: Cluster) -> None:
    gpu = Resources(cpus=1, memory_mb=500, gpus=1)
    cluster = replace(client.config(tmp_path, parallel=1), limits=Limits(gpu_hours=0.001))
    long = job("long", config={"seconds": 9, "slow": [1]}, resources=gpu)
    waits = job("waits", resources=gpu)
    over = plan(long, waits)
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    assert (ends(cluster, long), ends(cluster, waits)) == (["STOPPED"], [])
    assert gpu_hours(RunPaths(cluster.run_root), over.sweep) >= 0.001
    with pytest.raises(BackendError, match=r"of 0\.001 GPU-hours are used; raise `limits: \{gpu_hours: \.\.\.\}`") as caught:
        client.hand_over(over, cluster, wait=False)
    assert (caught.value.exit_code, slurm.squeue()) == (EXIT_PERSON, {})
    richer = replace(cluster, limits=Limits(gpu_hours=1.0))
    assert client.hand_over(over, richer, wait=False).submitted == 2
    finish(slurm, richer, over)
    assert (ends(cluster, long), ends(cluster, waits)) == (["STOPPED", "SUCCEEDED"], ["SUCCEEDED"])


def test_a_gpu_is_counted_for_as_long_as_it_is_held(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    specs: tuple[JobSpec, ...] = (
        job("two", config={"seconds": 3}, resources=replace(SMALL, gpus=1)),
        job("none", config={"seconds": 3}, resources=SMALL),
    )
    over = plan(*specs)
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, specs[0]), what="for the job to run")
    finish(slurm, cluster, over)
    usage = RunPaths(cluster.run_root).sweep(over.sweep).usage
    (counted,) = usage.iterdir()
    held = int(counted.name.rpartition("@")[2])
    assert held >= 3
    assert gpu_hours(RunPaths(cluster.run_root), over.sweep) == held / 3600
