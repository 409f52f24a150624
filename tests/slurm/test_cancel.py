"""Cancelling on the real cluster, and several jobs in one allocation: one that ends ends nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import Resources, State
from orchestrator.decide import Request, Why
from orchestrator.model import ClusterConfig
from orchestrator.submit import cancel
from tests.orchestrator.standin import chain, job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster
from tests.slurm.endings import assert_as_if_nothing_had_happened, body, ends, finish, submissions

FOUR = Resources(cpus=1, memory_mb=500, pack=4)


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def test_what_waits_is_cancelled_at_once_and_only_resume_runs_it_again(tmp_path: Path, slurm: Cluster) -> None:
    waiting = client.config(tmp_path, extra={"begin": "now+1hour"})
    over = plan(*chain("a"), *chain("b"), job("kept"))
    run = RunPaths(waiting.run_root)
    client.hand_over(over, waiting, wait=False)
    assert cancel(run, waiting, [one.job_id for one in over.jobs[:6]]) == ()
    slurm.wait_until(lambda: len(slurm.squeue()) == 1, what="for the queue to hold but one job")
    after = client.hand_over(over, waiting, wait=False)
    assert (after.submitted, after.counts) == (0, {State.CANCELLED: 6, State.SUBMITTED: 1})
    assert set(after.kept.values()) == {Why.CANCELLED, Why.IN_FLIGHT}
    assert set(map(tuple, client.ran(over, waiting).values())) == {()}
    cluster = client.config(tmp_path)
    assert client.hand_over(over, cluster, wait=False, request=Request(resume=True)).submitted == 6
    done = [run.job(one.job_id).result for one in over.jobs[:6]]
    slurm.wait_until(lambda: all(result.exists() for result in done), what="for the six to run")


def test_a_running_job_saves_first_and_takes_what_follows_it_along(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    over = plan(*chain("a", seconds=6, slow=[1]), *chain("b", seconds=3))
    train, *rest = over.jobs[:3]
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, train), what="for the first start")
    cancel(RunPaths(cluster.run_root), cluster, [one.job_id for one in over.jobs[:3]])
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    assert ends(cluster, train) == ["STOPPED", "CANCELLED"]
    assert [ends(cluster, one) for one in rest] == [["CANCELLED"], ["CANCELLED"]]
    after = client.hand_over(over, cluster, wait=True)
    assert (after.submitted, after.counts) == (0, {State.CANCELLED: 3, State.SUCCEEDED: 3})
    resumed = client.hand_over(over, cluster, wait=True, request=Request(resume=True))
    assert (resumed.submitted, resumed.counts) == (3, {State.SUCCEEDED: 6})
    assert client.ran(over, cluster)["a/train"] == [1, 3]
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


def test_a_sweep_is_cancelled_whatever_part_of_it_is_done_or_running(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path, parallel=1)
    over = plan(job("done"), job("running", config={"seconds": 60}), job("waiting"))
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, over.jobs[1]), what="for the second to run")
    cancel(RunPaths(cluster.run_root), cluster, [one.job_id for one in over.jobs])
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    after = client.hand_over(over, cluster, wait=False)
    assert [after.states[one.job_id].state for one in over.jobs] == [State.SUCCEEDED, State.CANCELLED, State.CANCELLED]
    assert after.submitted == 0


def allocations(cluster: ClusterConfig, jobs: list[str]) -> list[str]:
    """Return the allocation in which each job's last attempt ran."""
    run = RunPaths(cluster.run_root)
    return [json.loads(run.job(one).attempts()[-1].env.read_text())["slurm"]["SLURM_JOB_ID"] for one in jobs]


def test_four_run_side_by_side_and_what_ends_of_them_ends_nothing_else(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    long = {"seconds": 6, "slow": [1]}
    fails = job("fails", config={"fail": "ERROR", "fail_on": [1]}, resources=FOUR)
    short = job("short", resources=FOUR)
    asked = job("asked", config=long, resources=FOUR)
    stays = job("stays", config=long, resources=FOUR)
    others = [job(f"other{number}", config={"seconds": 1}, resources=FOUR) for number in range(4)]
    over = plan(fails, short, asked, stays, *others)
    client.hand_over(over, cluster, wait=False)
    assert len(slurm.squeue()) == 2
    slurm.wait_until(lambda: [ends(cluster, one) for one in (fails, short)] == [["ERROR"], ["SUCCEEDED"]], what="for two to end")
    slurm.wait_until(lambda: all(body(cluster, one)() for one in (asked, stays)), what="for the others to run")
    both = allocations(cluster, [one.job_id for one in over.jobs[:4]])
    assert len(set(both)) == 1
    cancel(RunPaths(cluster.run_root), cluster, [asked.job_id])
    slurm.wait_until(lambda: ends(cluster, asked) == ["STOPPED", "CANCELLED"], what="for one to be cancelled")
    assert Path(f"/proc/{body(cluster, stays)()}").exists()
    slurm.wait_until(lambda: len(slurm.squeue()) == 1, what="for the other four to end")
    assert len(set(allocations(cluster, [one.job_id for one in others]))) == 1
    slurm.requeue(next(iter(slurm.squeue())))
    slurm.wait_until(lambda: not slurm.squeue(), release=True, what="for the rest to end")
    # A failure, a result and a cancellation are not undone by a requeue: only what was left goes on.
    assert client.ran(over, cluster) == {"fails": [1], "short": [1], "asked": [1], "stays": [1, 2]} | {f"other{n}": [1] for n in range(4)}
    after = client.hand_over(over, cluster, wait=False)
    assert {one.trial: after.states[one.job_id].state for one in over.jobs[:4]} == {
        "fails": State.FAILED,
        "short": State.SUCCEEDED,
        "asked": State.CANCELLED,
        "stays": State.SUCCEEDED,
    }
    assert (after.submitted, submissions(cluster)) == (0, 1)
    client.hand_over(over, cluster, wait=False, request=Request(resume=True))
    finish(slurm, cluster, over)
    assert_as_if_nothing_had_happened(tmp_path, cluster, plan(*over.jobs[1:]))
