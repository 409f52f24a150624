"""Time limits on the real cluster. Slurm counts them in minutes, so all cases run side by side in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import FailureKind, Resources, State
from orchestrator.decide import Request
from tests.orchestrator.standin import chain, job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster
from tests.slurm.endings import assert_as_if_nothing_had_happened, ends, finish, submissions

MINUTE = Resources(cpus=1, memory_mb=500, time_minutes=1, fuse=False)


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_slurm_requeues_what_its_limit_ended_and_the_next_call_asks_for_more_time_where_nothing_was_saved(
    tmp_path: Path, slurm: Cluster
) -> None:
    cluster = client.config(tmp_path, signal_lead=30)
    long = {"seconds": 8, "slow": [1]}
    saves = job("saves", config=long, resources=MINUTE)
    hears_nothing = job("hears nothing", config={**long, "deaf": [1], "save_every": 50}, resources=MINUTE)
    saves_nothing = job("saves nothing", config={**long, "deaf": [1]}, resources=MINUTE)
    over = plan(saves, hears_nothing, saves_nothing, *chain("short", seconds=1))
    client.hand_over(over, cluster, wait=False)
    handed = submissions(cluster)
    slurm.wait_until(lambda: not slurm.squeue(), timeout=300, release=True, what="for all to end")
    assert ends(cluster, saves) == ["STOPPED", "SUCCEEDED"]
    assert ends(cluster, hears_nothing) == ["open", "SUCCEEDED"]
    assert ends(cluster, saves_nothing) == ["TIMEOUT"]
    # The one that got nowhere was not requeued for ever: it is for a person, and twice the time is proposed.
    after = client.hand_over(over, cluster, wait=False)
    assert submissions(cluster) == handed
    status = after.states[saves_nothing.job_id]
    assert (after.submitted, status.state, status.failure) == (0, State.FAILED, FailureKind.TIMEOUT)
    client.hand_over(over, cluster, wait=False, request=Request(resume=True))
    (number,) = slurm.squeue()
    assert slurm.job(number)["TimeLimit"] == "00:02:00"
    finish(slurm, cluster, over)
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)
