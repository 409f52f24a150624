"""The last job of a sweep, which tells people how it ended when nobody waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator import scheduler
from orchestrator.notify.settings import Notify
from orchestrator.plans import write_plan
from tests.orchestrator.notify.sinks import web
from tests.orchestrator.standin import job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def test_a_last_job_tells_how_it_ended_and_knows_no_secret(tmp_path: Path, slurm: Cluster) -> None:
    first, second = job("good"), job("bad", config={"fail": "ERROR"})
    both = plan(first, second, sweep="telling")
    with web() as kept:
        secret = "T0/very/secret"
        (tmp_path / "hook").write_text(f"{kept.address}/{secret}\n")
        cluster = replace(client.config(tmp_path), notify=Notify(webhook_file=tmp_path / "hook", nodes=True))
        client.hand_over(both, cluster, wait=False)
        run = RunPaths(cluster.run_root)
        write_plan(run.sweep(both.sweep).plan, both)
        keeper = scheduler.of(cluster)
        assert keeper is not None
        teller = keeper.tell_at_the_end(run, both.sweep)
        # Whoever submits again puts a later one in its place.
        again = keeper.tell_at_the_end(run, both.sweep)
        assert again.startswith("job ")
        assert teller != again
        slurm.wait_until(lambda: not slurm.squeue(), timeout=240, what="the last job has ended too")
    assert [path for path, _ in kept.posts] == [f"/{secret}"]
    assert kept.posts[0][1]["text"].startswith("telling: 1 of 2 done, 1 failed")
    texts = [path.read_bytes() for path in run.root.rglob("*") if path.is_file()]
    assert not [text for text in texts if secret.encode() in text]


def test_nodes_without_a_network_are_not_asked(tmp_path: Path, slurm: Cluster) -> None:
    cluster = replace(client.config(tmp_path), notify=Notify(webhook_file=tmp_path / "hook"))
    client.hand_over(plan(job("one"), sweep="quiet"), cluster, wait=False)
    keeper = scheduler.of(cluster)
    assert keeper is not None
    assert keeper.tell_at_the_end(RunPaths(cluster.run_root), "quiet") == ""
    assert "orch-tell" not in slurm.run("squeue", "--noheader", "--format=%j").stdout
    slurm.wait_until(lambda: not slurm.squeue(), timeout=240, what="it is done")
