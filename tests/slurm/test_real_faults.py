"""Faults of a cluster in the midst of real training: the same bytes as an undisturbed run, weights and predictions included."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.events import read_events
from jobs.spec import JobSpec, Stage, State
from orchestrator.backends import base
from orchestrator.model import ClusterConfig, Partition, SlurmSite
from orchestrator.submit import Summary, submit
from tests.jobs.study import Study, lay
from tests.slurm.cluster import Cluster
from tests.slurm.endings import ends

SWEEP = """sweep: shaken
data: tiny
phases:
  finetune:
    trainer: classification
    config: {arch: slim, px: 32, epochs: 24, batch_size: 8, keep_best: 2, lr: 3e-3}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
    resources: {cpus: 1, memory: 2G, time: 10m}
"""
EXACT = "sweep: exact\ndata: tiny\nphases: {exact: {trainer: NAME, config: {epochs: EPOCHS}, resources: {memory: 2G, time: 2m}}}\n"
HOLDS, PACE = "TEST_GPU_HOLDS", "TEST_PACE"
EXACT_CONFIG = '''"""Sums in which no digit is lost, so that parts of a batch add up to the very bytes of the whole."""
from dataclasses import dataclass

NAME = "NAME"
VERSION = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    px: int = 32
    epochs: int = 3
    batch_size: int = 8
    save_every_steps: int = 2
'''
EXACT_TRAIN = '''"""Sums in which no digit is lost, on a GPU that holds so many images, at the pace that is set, and no more."""
import os
import time

import torch

class Exact:
    steps_per_epoch = 4

    def __init__(self, setup):
        self.module = torch.nn.Linear(4, 1, bias=False)
        torch.nn.init.ones_(self.module.weight)
        setup.data.rows("train")

    def optimizer(self):
        return torch.optim.SGD(self.module.parameters(), lr=2.0**-6)

    def learning_rate_factor(self, step):
        return 1.0

    def batches(self, epoch, start=0):
        for step in range(start, self.steps_per_epoch):
            yield {"x": (torch.arange(32.0).reshape(8, 4) + step + epoch) % 7}

    def loss(self, batch):
        if len(batch["x"]) > int(os.environ.get("TEST_GPU_HOLDS", "8")):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return {"loss": self.module(batch["x"]).mean()}

    def after_step(self, step):
        time.sleep(float(os.environ.get("TEST_PACE", "0")))

    def after_epoch(self, epoch):
        return {}

    def validate(self):
        return None

    def predict(self, rows):
        raise NotImplementedError

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass

def build(setup):
    return Exact(setup)
'''


@pytest.fixture(autouse=True)
def _on_the_cluster(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)


def site(study: Study, backend: str) -> ClusterConfig:
    return replace(
        study.workspace.cluster,
        backend=backend,
        partitions=(Partition(name="preemptible", gpus=2, cpus=4, memory_mb=32000),),
        slurm=SlurmSite(canary=0, signal_lead=30),
    )


def hand_over(study: Study, backend: str, *, wait: bool) -> Summary:
    cluster = site(study, backend)
    return submit(study.plan, study.workspace.run, cluster, base.load(cluster), machine=study.workspace.machine(), wait=wait)


def saved(study: Study, spec: JobSpec) -> tuple[int, int]:
    """Return how many attempts a job had, and how often the last of them has saved."""
    attempts = [one for one in study.paths(spec).attempts() if one.claim.exists()]
    events = read_events(attempts[-1].events) if attempts else []
    return len(attempts), sum(event["kind"] == "CHECKPOINTED" for event in events)


def finish(slurm: Cluster, study: Study) -> None:
    slurm.wait_until(lambda: not slurm.squeue(), timeout=400, release=True, what="for the queue to be empty")
    after = hand_over(study, "slurm", wait=False)
    assert (after.submitted, after.counts) == (0, {State.SUCCEEDED: len(study.plan.jobs)})


def kill_child(study: Study, spec: JobSpec) -> None:
    pid = read_events(study.paths(spec).attempts()[-1].events)[0]["pid"]
    os.kill(pid, signal.SIGKILL)


def exact(folder: Path, name: str, epochs: int) -> Study:
    """Lay out a study of the method above, under a name of its own: a process knows one package of a name."""
    return lay(
        folder,
        EXACT.replace("NAME", name).replace("EPOCHS", str(epochs)),
        methods={name: (EXACT_CONFIG.replace('"NAME"', f'"{name}"'), EXACT_TRAIN)},
    )


def undisturbed(study: Study) -> Study:
    """Run a study's plan in this process, in a run root of its own."""
    cluster = replace(study.workspace.cluster, run_root=study.folder / "undisturbed")
    alone = replace(study, workspace=replace(study.workspace, cluster=cluster))
    assert hand_over(alone, "inline", wait=True).counts == {State.SUCCEEDED: len(alone.plan.jobs)}
    return alone


def assert_as_undisturbed(study: Study) -> None:
    alone = undisturbed(study)
    for one in study.plan.jobs:
        assert study.outcome(one) == alone.outcome(one), one.trial


def test_training_goes_on_exactly_after_a_preemption_a_signal_a_requeue_and_a_killed_child(tmp_path: Path, slurm: Cluster) -> None:
    study = lay(tmp_path, SWEEP)
    spec = study.job(Stage.TRAIN)
    hand_over(study, "slurm", wait=False)
    (number,) = slurm.squeue()
    shakes: list[Callable[[], object]] = [
        lambda: slurm.preempt(slurm.job(number)["NodeList"]),
        lambda: slurm.run("scancel", "--signal=USR2", f"{number}.0"),
        lambda: slurm.requeue(number, release=False),
        lambda: kill_child(study, spec),
    ]
    for start, shake in enumerate(shakes, 1):
        slurm.wait_until(lambda start=start: saved(study, spec) >= (start, 1), release=True, timeout=120, what=f"for start {start}")
        shake()
    finish(slurm, study)
    assert ends(site(study, "slurm"), spec) == ["STOPPED", "STOPPED", "STOPPED", "LOST", "SUCCEEDED"]
    assert_as_undisturbed(study)


@pytest.mark.slow
def test_training_goes_on_exactly_after_its_time_limit(tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    study = exact(tmp_path, "paced", 40)
    with monkeypatch.context() as slow:
        slow.setenv(PACE, "1")
        hand_over(study, "slurm", wait=False)
        finish(slurm, study)
    ended = ends(site(study, "slurm"), study.job(Stage.TRAIN))
    assert ended[-1] == "SUCCEEDED"
    assert set(ended[:-1]) == {"STOPPED"}
    assert_as_undisturbed(study)


def test_the_job_halves_its_passes_when_the_gpu_is_too_small(tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    study = exact(tmp_path, "tight", 3)
    with monkeypatch.context() as small:
        small.setenv(HOLDS, "4")
        hand_over(study, "slurm", wait=False)
        finish(slurm, study)
    alone, spec = undisturbed(study), study.job(Stage.TRAIN)
    assert ends(site(study, "slurm"), spec) == ["SUCCEEDED"]
    assert [one.store(spec).kept()[-1]["info"]["micro_batch"] for one in (alone, study)] == [0, 4]
    # What a checkpoint says of how it was made differs, and nothing else.
    ours, theirs = (one.outcome(spec) for one in (study, alone))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == [
        name for name in ours if name.startswith("epoch") and name.endswith(".json")
    ]
