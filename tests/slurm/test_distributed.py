"""One train job by two processes on each of two nodes, through submitit: the single process's model, also after a requeue."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.paths import RunPaths
from jobs.spec import JobSpec, Stage, State
from orchestrator.backends import base
from orchestrator.model import ClusterConfig, Partition, SlurmSite
from orchestrator.submit import submit
from tests.jobs.study import Study, lay
from tests.slurm.cluster import Cluster

SWEEP = """sweep: together
data: tiny
phases:
  layernorm:
    trainer: classification
    config: {{arch: test_vit, px: 32, epochs: {epochs}, batch_size: 8, keep_best: -1, optimizer: sgd, lr: 0.05}}
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test}}]
    resources: {resources}
  batchnorm:
    trainer: classification
    config: {{arch: slim, px: 64, epochs: {epochs}, batch_size: 16, keep_best: -1, optimizer: sgd, lr: 2e-3, bn_images: 4}}
    pick: {{metric: val/auroc_macro}}
    resources: {resources}
"""
#: Sums in another order differ in the last digit of a float32, and a hundred steps later in the fourth.
TOLERANCE = 1e-3
ALONE = "{cpus: 1, memory: 1G}"
TOGETHER = "{nodes: 2, gpus: 2, cpus: 2, memory: 4G}"


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    # The GPUs of the test nodes are names only.
    monkeypatch.setenv("ORCH_DEVICE", "cpu")


def run(study: Study, backend: str, *, wait: bool = True) -> None:
    workspace = study.workspace
    cluster: ClusterConfig = replace(
        workspace.cluster,
        backend=backend,
        partitions=(Partition(name="normal", gpus=2, cpus=4, memory_mb=32000),),
        slurm=SlurmSite(signal_lead=30),
    )
    done = submit(study.plan, workspace.run, cluster, base.load(cluster), machine=workspace.machine(), wait=wait)
    assert not wait or done.counts == {State.SUCCEEDED: len(study.plan.jobs)}, done.states


def train_jobs(study: Study) -> list[JobSpec]:
    return [job for job in study.plan.jobs if job.stage is Stage.TRAIN]


def last_weights(study: Study, spec: JobSpec) -> dict[str, torch.Tensor]:
    name = study.result(spec)["checkpoints"][-1]["name"]
    return load_file(study.store(spec).file(name, "safetensors"))


def gap(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of any tensor over its largest entry."""
    assert ours.keys() == theirs.keys()
    return max(
        float((ours[name].double() - theirs[name].double()).abs().max() / theirs[name].double().abs().max().clamp_min(1e-12))
        for name in ours
    )


def test_four_processes_on_two_nodes_are_one_also_after_a_requeue(tmp_path: Path, slurm: Cluster) -> None:
    for name in ("alone", "together"):
        (tmp_path / name).mkdir()
    made = tmp_path / "made"
    alone = lay(tmp_path / "alone", SWEEP.format(epochs=6, resources=ALONE), made=made)
    together = lay(tmp_path / "together", SWEEP.format(epochs=6, resources=TOGETHER), made=made)
    assert [job.job_id for job in alone.plan.jobs] == [job.job_id for job in together.plan.jobs]
    run(alone, "inline")
    run(together, "slurm", wait=False)
    paths = RunPaths(together.workspace.cluster.run_root)
    trains = train_jobs(together)
    slurm.wait_until(
        lambda: any(
            "CHECKPOINTED" in one.events.read_text() for spec in trains for one in paths.job(spec.job_id).attempts() if one.events.exists()
        ),
        timeout=240,
        what="a job has saved",
    )
    for number in {key.split("_")[0] for key, state in slurm.squeue().items() if state == "RUNNING"}:
        slurm.requeue(number)
    run(together, "slurm")
    for ours, theirs in zip(trains, train_jobs(alone), strict=True):
        assert gap(last_weights(together, ours), last_weights(alone, theirs)) < TOLERANCE, ours.phase
    attempts = [one for spec in trains for one in paths.job(spec.job_id).attempts()]
    assert len(attempts) > len(trains)
    for one in attempts:
        env = json.loads(one.env.read_text())
        assert env["threads"] == 1
        # Nobody but the first process writes what is read: the others leave their own output and no more.
        assert {path.name for path in one.folder.iterdir() if path.name.startswith("stdout")} == {
            "stdout",
            "stdout.1",
            "stdout.2",
            "stdout.3",
        }
