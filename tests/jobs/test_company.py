"""One train job by several processes: `python -m jobs run job.json --rank R --world W --local-rank L --meeting KEY`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs import company, main
from jobs.checkpoints import CheckpointStore
from jobs.company import processes_of
from jobs.signals import EXIT_STOPPED
from jobs.spec import JobSpec, Resources, Stage
from tests.jobs.study import ROOT, Study, ended, lay, run_alone, said, start_command

SWEEP = """sweep: together
data: tiny
phases:
  layernorm:
    trainer: classification
    config: {arch: test_vit, px: 32, epochs: 6, batch_size: 8, keep_best: -1, optimizer: sgd, lr: 0.05}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
  batchnorm:
    trainer: classification
    config: {arch: slim, px: 64, epochs: 6, batch_size: 16, keep_best: -1, optimizer: sgd, lr: 2e-3, bn_images: 4}
    pick: {metric: val/auroc_macro}
  linear:
    trainer: classification
    config: {arch: slim, px: 32, freeze: backbone}
    pick: {metric: val/auroc_macro}
"""
TWO_BY_TWO = Resources(nodes=2, gpus=2, cpus=2)
PAIR = Resources(gpus=2, cpus=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Study:
    """Lay out a study whose jobs are run by one process each."""
    return lay(tmp_path_factory.mktemp("alone"), SWEEP, made=made)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Study:
    """Run the two networks, each by four processes that nothing disturbs."""
    study = lay(tmp_path_factory.mktemp("together"), SWEEP, made=made)
    for phase in ("layernorm", "batchnorm"):
        spec = shared(study, phase, TWO_BY_TWO)
        assert codes(start_all(study, spec, "one")) == [main.EXIT_DONE] * 4, said(study.paths(spec))
    return study


def shared(study: Study, phase: str, resources: Resources) -> JobSpec:
    """Return a train job, asking for resources, with which its description is written again."""
    spec = replace(study.job(Stage.TRAIN, phase=phase), resources=resources)
    study.add(spec)
    return spec


def commands(study: Study, spec: JobSpec, key: str) -> list[list[str]]:
    """Return the arguments of `python -m jobs` for every process of a job, by rank."""
    world = processes_of(spec.resources)
    near = world // spec.resources.nodes
    return [
        ["run", str(study.paths(spec).job), "--rank", str(rank), "--world", str(world), "--local-rank", str(rank % near), "--meeting", key]
        for rank in range(world)
    ]


def start_all(study: Study, spec: JobSpec, key: str, **how: Any) -> list[ForkServerProcess]:
    """Start every process of a job, the first one last: the others have to wait for it."""
    return [start_command(command, ORCH_DEVICE="cpu", **how) for command in reversed(commands(study, spec, key))][::-1]


def codes(started: list[ForkServerProcess]) -> list[int]:
    """Wait for processes and return their exit codes, by rank."""
    try:
        return [ended(one) for one in started]
    finally:
        for one in started:
            one.kill()


def wait_for_epoch(study: Study, spec: JobSpec, started: list[ForkServerProcess], epoch: int = 0) -> None:
    """Return when the last attempt has saved an epoch."""
    deadline = time.monotonic() + 120
    while True:
        attempts = study.paths(spec).attempts()
        events = attempts[-1].events if attempts else None
        lines = events.read_text(encoding="utf-8").split("\n")[:-1] if events is not None and events.exists() else []
        if any(json.loads(line).get("epoch", -1) >= epoch for line in lines):
            return
        assert all(one.is_alive() for one in started), said(study.paths(spec))
        assert time.monotonic() < deadline
        time.sleep(0.005)


def weights(study: Study, spec: JobSpec, index: int = -1) -> dict[str, torch.Tensor]:
    name = study.result(spec)["checkpoints"][index]["name"]
    return load_file(study.store(spec).file(name, "safetensors"))


def gap(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference of any tensor over its largest entry."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[k].double() - v.double()).abs().max() / v.double().abs().max().clamp_min(1e-2)) for k, v in theirs.items())


@pytest.mark.parametrize("phase", ["layernorm", "batchnorm"])
def test_four_processes_leave_what_one_leaves(alone: Study, together: Study, phase: str) -> None:
    spec = alone.job(Stage.TRAIN, phase=phase)
    assert run_alone(alone.paths(spec).job) == main.EXIT_DONE, said(alone.paths(spec))
    one, four = alone.result(spec), together.result(spec)
    assert gap(weights(together, spec), weights(alone, spec)) < 1e-4
    # It did train: the last weights are not those of the first epoch.
    assert gap(weights(together, spec), weights(together, spec, 0)) > 1e-2
    assert {**one, "metrics": 0, "checkpoints": 0} == {**four, "metrics": 0, "checkpoints": 0}
    assert four["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-3)
    places = [set(study.metrics(spec)) for study in (alone, together)]
    assert places[0] == places[1]
    paths = together.paths(spec)
    assert {path.name for path in paths.folder.iterdir()} == {"job.json", "result.json", "attempts", "checkpoints"}
    assert {path.name for path in paths.attempt(1).folder.iterdir()} == {
        "claim", "events.jsonl", "metrics.jsonl", "env.json", "stdout", "stdout.1", "stdout.2", "stdout.3"
    }  # fmt: skip
    assert [event["kind"] for event in together.events(spec)].count("STARTED") == 1
    environment = json.loads(paths.attempt(1).env.read_text())
    assert environment["threads"] == 1
    assert environment["processes"] == {"count": 4, "nodes": 2, "meeting": "one"}


def test_stopped_killed_and_gone_on_with_four_processes_leave_the_same_bytes(together: Study, tmp_path: Path, made: Path) -> None:
    study = lay(tmp_path, SWEEP, made=made)
    spec = shared(study, "layernorm", TWO_BY_TWO)
    # A process is killed: the others end by themselves, and the first says which one it was.
    started = start_all(study, spec, "100-0")
    wait_for_epoch(study, spec, started)
    started[1].kill()
    assert codes(started) == [main.EXIT_FAILED, -signal.SIGKILL, main.EXIT_FAILED, main.EXIT_FAILED]
    event = study.last_event(spec)
    assert (event["kind"], event["failure"]) == ("FAILED", "LOST")
    assert event["message"].startswith(f"process 1 of 4 (pid {started[1].pid} on ")
    assert "ended without a word" in event["message"]
    # A scheduler tells all of them to stop.
    started = start_all(study, spec, "100-1")
    wait_for_epoch(study, spec, started, epoch=2)
    for one in started:
        assert one.pid is not None
        os.kill(one.pid, signal.SIGTERM)
    assert codes(started) == [EXIT_STOPPED] * 4
    assert [event["kind"] for event in study.events(spec)][-2:] == ["CHECKPOINTED", "STOPPED"]
    # One process would not go on exactly.
    shared(study, "layernorm", Resources(cpus=1))
    assert run_alone(study.paths(spec).job) == main.EXIT_FAILED
    assert "written with processes 4, and this run has processes 1" in study.last_event(spec)["message"]
    shared(study, "layernorm", TWO_BY_TWO)
    assert codes(start_all(study, spec, "100-2")) == [main.EXIT_DONE] * 4, said(study.paths(spec))
    assert study.outcome(spec) == together.outcome(spec)
    assert study.metrics(spec) == together.metrics(spec)
    assert min(step for step, _ in study.metrics_by_attempt(spec)[-1]) > 9


def test_one_process_that_is_asked_stops_all(together: Study, tmp_path: Path, made: Path) -> None:
    study = lay(tmp_path, SWEEP, made=made)
    spec = shared(study, "batchnorm", TWO_BY_TWO)
    started = start_all(study, spec, "one")
    wait_for_epoch(study, spec, started)
    assert started[3].pid is not None
    os.kill(started[3].pid, signal.SIGUSR2)
    assert codes(started) == [EXIT_STOPPED] * 4
    assert codes(start_all(study, spec, "two")) == [main.EXIT_DONE] * 4, said(study.paths(spec))
    assert study.outcome(spec) == together.outcome(spec)


def test_a_solver_runs_in_the_first_process_and_the_others_leave(alone: Study, tmp_path: Path, made: Path) -> None:
    study = lay(tmp_path, SWEEP, made=made)
    spec = shared(study, "linear", PAIR)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ORCH_DEVICE": "cpu"}
    started = [subprocess.Popen([sys.executable, "-m", "jobs", *one], cwd=ROOT, env=environment) for one in commands(study, spec, "one")]
    assert [one.wait(120) for one in started] == [main.EXIT_DONE] * 2, said(study.paths(spec))
    one = alone.job(Stage.TRAIN, phase="linear")
    assert run_alone(alone.paths(one).job) == main.EXIT_DONE
    assert study.outcome(spec) == alone.outcome(one)


def test_what_follows_training_runs_in_the_first_process(together: Study) -> None:
    """A chain in one allocation: every process runs every job of it."""
    for stage in (Stage.PICK, Stage.EVALUATE):
        spec = replace(together.job(stage, phase="layernorm"), resources=PAIR)
        together.add(spec)
        assert codes(start_all(together, spec, "one")) == [main.EXIT_DONE] * 2, said(together.paths(spec))
        assert together.result(spec)["stage"] == stage
        assert not (together.paths(spec).folder / "meetings").exists()


# --- a process that fails ----------------------------------------------------------------------------------------------------------------

FAULTY_CONFIG = '''"""Fails in one process."""
from dataclasses import dataclass

NAME = "faulty"
VERSION = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    px: int = 32
    epochs: int = 50
    batch_size: int = 8
    fault: str = "none"
'''
FAULTY_TRAIN = '''"""Fails in one process."""
import time

import torch
from torch import distributed
from trainers.errors import DataError

class Faulty:
    steps_per_epoch = 4

    def __init__(self, setup):
        self.fault = setup.config.fault
        self.module = torch.nn.Linear(4, 1)
        setup.data.rows("train")

    def optimizer(self):
        return torch.optim.SGD(self.module.parameters(), lr=0.1)

    def learning_rate_factor(self, step):
        return 1.0

    def batches(self, epoch, start=0):
        for step in range(start, self.steps_per_epoch):
            yield {"x": torch.full((8, 4), float(step))}

    def loss(self, batch):
        if distributed.get_rank() == 1 and batch["x"].max() > 1:
            if self.fault == "raises":
                raise ZeroDivisionError("by nothing")
            if self.fault in ("data", "hangs"):
                raise DataError("image 7 cannot be read")
        if distributed.get_rank() == 0 and batch["x"].max() > 1 and self.fault == "hangs":
            time.sleep(1000)
        return {"loss": self.module(batch["x"]).square().mean()}

    def after_step(self, step):
        pass

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
    return Faulty(setup)
'''
FAULTY_SWEEP = """sweep: faulty
data: tiny
phases:
  faulty:
    trainer: faulty
    compare: {fault: [none, raises, data, hangs]}
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Study:
    return lay(tmp_path_factory.mktemp("faulty"), FAULTY_SWEEP, made=made, methods={"faulty": (FAULTY_CONFIG, FAULTY_TRAIN)})


def faulty_job(study: Study, fault: str) -> JobSpec:
    spec = replace(study.job(Stage.TRAIN, fault=fault), resources=PAIR)
    study.add(spec)
    return spec


@pytest.mark.parametrize(
    ("fault", "kind", "for_people", "sentence"),
    [
        ("raises", "ERROR", False, "): ZeroDivisionError: by nothing; see "),
        ("data", "BAD_DATA", True, "): image 7 cannot be read"),
        # The first process sits where no signal and no broken connection reaches it.
        ("hangs", "BAD_DATA", True, "): image 7 cannot be read"),
    ],
)
def test_a_process_that_fails_ends_the_job_with_its_own_words(
    faulty: Study, fault: str, kind: str, for_people: bool, sentence: str
) -> None:
    spec = faulty_job(faulty, fault)
    started = start_all(faulty, spec, "one")
    assert codes(started) == [main.EXIT_FAILED] * 2
    event, attempt = faulty.last_event(spec), faulty.paths(spec).attempt(1)
    assert (event["kind"], event["failure"], event["for_people"]) == ("FAILED", kind, for_people)
    assert event["message"].startswith(f"process 1 of 2 (pid {started[1].pid} on ")
    assert sentence in event["message"]
    assert "in loss" in attempt.traceback_of(1).read_text()
    assert len([event for event in faulty.events(spec) if event["kind"] == "FAILED"]) == 1
    assert not faulty.paths(spec).result.exists()


def save_slowly() -> None:
    """Take longer to save than a process that lost the others is given, and say when saving begins."""
    plain = CheckpointStore.save_state
    company.GRACE = 0.2

    def save(self: CheckpointStore, step: int, epoch: int, write: Any) -> None:
        Path(os.environ["SAVING"]).touch()
        time.sleep(1.5)
        plain(self, step, epoch, write)

    CheckpointStore.save_state = save  # type: ignore[method-assign]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nobody_is_ended_in_the_middle_of_a_save(faulty: Study, tmp_path: Path, signum: signal.Signals) -> None:
    spec, saving = faulty_job(faulty, "none"), tmp_path / "saving"
    started = start_all(faulty, spec, f"start-{signum.name}", before=save_slowly, SAVING=str(saving))
    while not saving.exists():
        assert all(one.is_alive() for one in started), said(faulty.paths(spec))
        time.sleep(0.01)
    assert started[1].pid is not None
    os.kill(started[1].pid, signum)
    found, kinds = codes(started), [event["kind"] for event in faulty.events(spec)]
    assert "CHECKPOINTED" in kinds
    if signum == signal.SIGTERM:
        # The other process has nothing more to do while the first saves, and that is no failure.
        assert (found, kinds[-1]) == ([EXIT_STOPPED] * 2, "STOPPED")
    else:
        assert (found, kinds[-1]) == ([main.EXIT_FAILED, -signal.SIGKILL], "FAILED")
        assert faulty.last_event(spec)["failure"] == "LOST"


def test_a_job_of_several_processes_is_not_run_by_one(faulty: Study) -> None:
    spec: Any = replace(faulty.job(Stage.TRAIN, fault="raises"), resources=Resources(nodes=2), job_id="e" * 64)
    assert main.run(faulty.add(spec)) == main.EXIT_FAILED
    event = faulty.last_event(spec)
    assert event["for_people"] is True
    assert "2 node(s) with 0 GPU(s) each are 2 processes, and this one was started alone" in event["message"]
