"""Faults of a cluster, on the real one: who acted (Slurm, the job, or the next call), and the same bytes as without them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobs.spec import FailureKind, Resources, State
from orchestrator.decide import Request, Why
from tests.orchestrator.standin import chain, job, plan, search
from tests.slurm import client
from tests.slurm.cluster import Cluster
from tests.slurm.endings import assert_as_if_nothing_had_happened, body, ends, finish, submissions


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


# --- Slurm acts --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["preempted", "requeued", "node down"])
def test_slurm_starts_again_what_it_took_away_and_the_job_goes_on(tmp_path: Path, slurm: Cluster, fault: str) -> None:
    cluster = client.config(tmp_path, partition="preemptible")
    over = plan(*chain("a", seconds=4))
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, over.jobs[0]), what="for the first start")
    (number,) = slurm.squeue()
    node = slurm.job(number)["NodeList"]
    if fault == "preempted":
        slurm.preempt(node)
    elif fault == "requeued":
        slurm.requeue(number)
    else:
        slurm.kill_node(node)
    finish(slurm, cluster, over)
    # Where there was time, the job had saved.
    assert ends(cluster, over.jobs[0]) == ["open" if fault == "node down" else "STOPPED", "SUCCEEDED"]
    assert [ends(cluster, one) for one in over.jobs[1:]] == [["SUCCEEDED"], ["SUCCEEDED"]]
    assert submissions(cluster) == 1
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


def test_a_node_that_slurm_lost_is_ended_by_the_claim_of_the_next_start(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    pair = Resources(cpus=1, memory_mb=1000, pack=2)
    saving = job("saving", config={"seconds": 6, "slow": [1], "save_every": 2}, resources=pair)
    silent = job("silent", config={"seconds": 6, "slow": [1]}, resources=pair)
    over = plan(saving, silent)
    client.hand_over(over, cluster, wait=False)
    old = [slurm.wait_until(body(cluster, one), what="for the first start") for one in over.jobs]
    (number,) = slurm.squeue()
    slurm.kill_node(slurm.job(number)["NodeList"], spare_tasks=True)
    for one in over.jobs:
        slurm.wait_until(body(cluster, one, 2), release=True, what="for the second start")
    slurm.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in old), what="for the first processes to be ended")
    finish(slurm, cluster, over)
    # The one that came to save found that it may not, unless its supervisor looked in that moment, every five seconds, and ended it as it
    # did the other. Neither had the last word.
    assert ends(cluster, saving) in (["STOPPED", "SUCCEEDED"], ["open", "SUCCEEDED"])
    assert ends(cluster, silent) == ["open", "SUCCEEDED"]
    assert submissions(cluster) == 1
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


# --- the job acts ------------------------------------------------------------------------------------------------------------------------


def test_the_job_starts_a_killed_child_again_in_place(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    over = plan(*chain("a", seconds=2))
    client.hand_over(over, cluster, wait=False)
    os.kill(slurm.wait_until(body(cluster, over.jobs[0]), what="for the first start"), signal.SIGKILL)
    finish(slurm, cluster, over)
    assert ends(cluster, over.jobs[0]) == ["LOST", "SUCCEEDED"]
    assert submissions(cluster) == 1
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


def test_the_job_gives_up_after_three_deaths_and_the_next_call_goes_on(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    over = plan(job("a", config={"seconds": 0.2, "die": [1, 2, 3]}))
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: not slurm.squeue(), what="for the allocation to give up")
    assert ends(cluster, over.jobs[0]) == ["LOST", "LOST", "LOST"]
    done = client.hand_over(over, cluster, wait=True)
    assert (done.submitted, done.counts) == (1, {State.SUCCEEDED: 1})
    assert ends(cluster, over.jobs[0])[3:] == ["SUCCEEDED"]


def test_the_job_counts_a_diverged_tune_point_as_done_and_the_pick_goes_on(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    good = search("a", [[0.1, 0.2]], rule=None)
    bad = job("a/lost", config={"fail": "DIVERGED"})
    runs = [{"runs": {"": one.job_id}, "overrides": {"n": n}, "inputs": {}} for n, one in enumerate((good[0], bad))]
    pick = job("both/pick", (good[0], bad), stage=good[1].stage, config={**good[1].config, "candidates": runs})
    over = plan(good[0], bad, pick)
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    done = client.hand_over(over, cluster, wait=False)
    assert (done.submitted, done.exit_code) == (0, 0)
    assert [done.states[one.job_id].state for one in over.jobs] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert ends(cluster, bad) == ["DIVERGED"]
    names = ",".join(f"orch-{file.stem[:12]}" for file in (cluster.run_root / "submissions" / "ended").glob("*.json"))
    # To Slurm it is a success, so that nothing which waits for it is cancelled.
    slurm.wait_until(lambda: [row["State"] for row in slurm.sacct(f"--name={names}")] == ["COMPLETED"] * 3, what="for the records")


# --- the next call acts ------------------------------------------------------------------------------------------------------------------


def test_the_next_call_goes_on_where_the_whole_step_was_killed(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    over = plan(*chain("a", seconds=2))
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, over.jobs[0]), what="for the first start")
    (number,) = slurm.squeue()
    slurm.run("scancel", "--signal=KILL", f"{number}.0")
    slurm.wait_until(lambda: not slurm.squeue(), what="for the job to end")
    assert ends(cluster, over.jobs[0]) == ["open"]
    done = client.hand_over(over, cluster, wait=True)
    assert (done.submitted, done.counts) == (3, {State.SUCCEEDED: 3})
    assert ends(cluster, over.jobs[0]) == ["LOST", "SUCCEEDED"]
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


def test_resume_asks_for_more_memory_after_the_host_ran_out_of_it(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    over = plan(job("a", config={"seconds": 6, "greedy": 450}, resources=Resources(cpus=1, memory_mb=400)))
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: not slurm.squeue(), what="for the job to be killed")
    failed = client.hand_over(over, cluster, wait=False)
    status = failed.states[over.jobs[0].job_id]
    assert (failed.submitted, status.state, status.failure) == (0, State.FAILED, FailureKind.HOST_OOM)
    assert status.sighting is None or status.sighting.word == "FAILED"
    for kind, submitted in ((FailureKind.CUDA_OOM, 0), (FailureKind.HOST_OOM, 1)):
        resumed = client.hand_over(over, cluster, wait=False, request=Request(resume=True, failures=frozenset({kind})))
        assert resumed.submitted == submitted
    (number,) = slurm.squeue()
    assert slurm.job(number)["MinMemoryNode"] == "600M"
    finish(slurm, cluster, over)
    assert ends(cluster, over.jobs[0]) == ["HOST_OOM", "SUCCEEDED"]
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


def test_an_error_is_not_tried_again_and_what_follows_waits_for_resume(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    bad = job("bad", config={"fail": "ERROR", "fail_on": [1]})
    later = job("bad/later", (bad,), phase="later")
    over = plan(bad, later)
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    for _ in range(2):
        failed = client.hand_over(over, cluster, wait=True)
        assert (failed.submitted, failed.exit_code) == (0, 1)
        assert failed.states[bad.job_id].failure is FailureKind.ERROR
        assert failed.kept == {bad.job_id: Why.FAILED, later.job_id: Why.BLOCKED}
    assert client.ran(over, cluster) == {"bad": [1], "bad/later": []}
    done = client.hand_over(over, cluster, wait=True, request=Request(resume=True))
    assert (done.submitted, done.counts) == (2, {State.SUCCEEDED: 2})
    assert ends(cluster, bad) == ["ERROR", "SUCCEEDED"]
