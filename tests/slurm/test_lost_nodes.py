"""A node that failed under a job is left out when the job starts again, whoever starts it: the next call, or Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import FailureKind, State
from orchestrator import failed_nodes
from orchestrator.explanation import explain_job, print_explanation
from orchestrator.workspace import Workspace
from tests.orchestrator.standin import job, plan
from tests.slurm import client
from tests.slurm.cluster import Cluster
from tests.slurm.endings import assert_as_if_nothing_had_happened, body, ends, finish, submissions


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def test_the_next_call_leaves_out_a_node_that_took_its_job_with_it(
    tmp_path: Path, slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = client.config(tmp_path)
    over = plan(job("a", config={"seconds": 2, "slow": [1]}))
    (spec,) = over.jobs
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, spec), what="for the first start")
    (number,) = slurm.squeue()
    node = slurm.job(number)["NodeList"]
    # As on a site that puts nothing back: Slurm's own requeue would come first.
    slurm.run("scontrol", "update", f"JobId={number}", "Requeue=0")
    slurm.kill_node(node)
    slurm.wait_until(lambda: not slurm.squeue(), what="for Slurm to give up")
    told = explain_job(Workspace(cluster=cluster), spec)
    assert (told["state"], told["failure"], told["failed_nodes"]) == (State.INTERRUPTED, FailureKind.NODE_FAIL, [node])
    slurm.revive_node(node)
    assert client.hand_over(over, cluster, wait=False).submitted == 1
    (number,) = slurm.squeue()
    assert slurm.job(number)["ExcNodeList"] == node
    finish(slurm, cluster, over)
    assert ends(cluster, spec) == ["NODE_FAIL", "SUCCEEDED"]
    print_explanation(explain_job(Workspace(cluster=cluster), spec))
    assert f"nodes that failed under it: {node} (left out where others can take it)" in capsys.readouterr().out
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)


def test_a_job_that_slurm_puts_on_the_node_again_goes_elsewhere(tmp_path: Path, slurm: Cluster) -> None:
    cluster = client.config(tmp_path)
    over = plan(job("a", config={"seconds": 2, "slow": [1]}))
    (spec,) = over.jobs
    client.hand_over(over, cluster, wait=False)
    slurm.wait_until(body(cluster, spec), what="for the first start")
    (number,) = slurm.squeue()
    node = slurm.job(number)["NodeList"]
    slurm.kill_node(node)
    slurm.revive_node(node)
    # Of three nodes that are free Slurm is made to choose the very same.
    slurm.run("scontrol", "update", f"JobId={number}", f"ReqNodeList={node}")
    slurm.wait_until(lambda: slurm.job(number).get("Restarts") == "2", release=True, what="for it to be handed back")
    slurm.wait_until(lambda: slurm.job(number)["ExcNodeList"] == node, what="for the node to be left out")
    slurm.run("scontrol", "update", f"JobId={number}", "ReqNodeList=")
    assert ends(cluster, spec) == ["open"]
    finish(slurm, cluster, over)
    assert ends(cluster, spec) == ["open", "SUCCEEDED"]
    assert failed_nodes.of_job(RunPaths(cluster.run_root).job(spec.job_id)) == (node,)
    assert submissions(cluster) == 1
    assert_as_if_nothing_had_happened(tmp_path, cluster, over)
