"""Exact resume of whole jobs of the real trainers: killed at random, asked to stop, and in the end the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from jobs.main import EXIT_DONE
from jobs.signals import EXIT_STOPPED
from jobs.spec import JobSpec, Stage
from tests.jobs.study import ROOT, Study, ended, lay, run_alone, said, start, wait_for_beat

SWEEP = """sweep: resume
data: tiny
compare: {precision: [fp32, bf16]}
phases:
  pretrain:
    trainer: moco_cxr
    config: {arch: slim, px: 32, epochs: 8, batch_size: 8, queue_size: 32, optimizer: adamw, lr: 1e-3, momentum: 0.99, warmup: 0.1,
             schedule: cosine, augment: cxr_plus, collapse_guard: false}
  tuned:
    trainer: classification
    config: {arch: slim, px: 32, epochs: 8, batch_size: 8, freeze: nothing}
    pick: {metric: val/auroc_macro}
  frozen:
    trainer: classification
    config: {arch: slim, px: 32, epochs: 8, batch_size: 8, freeze: backbone, solver: sgd, lr: 0.01}
    pick: {metric: val/auroc/edema}
  released:
    trainer: classification
    config: {arch: slim, px: 32, epochs: 8, batch_size: 8, freeze: gradients, save_every_examples: 40, keep_best: 3, lr: 0.01}
    pick: {metric: val/auroc_macro, checkpoints: all}
  linear:
    trainer: classification
    config: {arch: slim, px: 32, freeze: backbone, solver: lbfgs}
    pick: {metric: val/auroc_macro}
  floor:
    trainer: thumbnail
    config: {px: 32}
    pick: {metric: val/auroc_macro}
"""
CASES = [
    *((phase, precision) for phase in ("pretrain", "tuned", "frozen") for precision in ("fp32", "bf16")),
    ("released", "fp32"),
    ("linear", "fp32"),
    ("floor", None),
]
#: Seconds that a job waits at each beat, and the most beats of an attempt before it is killed. An epoch of a trainer is 9 steps and about
#: 13 beats, so that five attempts close 5 of 8 epochs at most; a solver has two beats, its log and its keep.
PACE, MOST_BEATS = 0.01, 20
SOLVER_PACE, SOLVER_BEATS = 0.2, 2


def case_of(study: Study, phase: str, precision: str | None) -> JobSpec:
    return study.job(Stage.TRAIN, phase=phase, **({} if precision is None else {"precision": precision}))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Study:
    """Lay out a study of which jobs are run when first asked for, each in a process of its own and without a disturbance."""
    return lay(tmp_path_factory.mktemp("undisturbed"), SWEEP, made=made)


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Study:
    """Lay out the same study once more."""
    return lay(tmp_path_factory.mktemp("disturbed"), SWEEP, made=made)


def assert_as_undisturbed(disturbed: Study, undisturbed: Study, spec: JobSpec) -> None:
    """Every byte that the job leaves and every number that any of its attempts logged is that of a run without disturbance."""
    if not undisturbed.paths(spec).result.exists():
        assert run_alone(undisturbed.paths(spec).job) == EXIT_DONE, said(undisturbed.paths(spec))
    expected, metrics = undisturbed.outcome(spec), undisturbed.metrics(spec)
    assert any(name.endswith(".safetensors") for name in expected)
    assert disturbed.outcome(spec) == expected
    assert disturbed.metrics(spec) == metrics
    for lines in disturbed.metrics_by_attempt(spec):
        assert {place: metrics[place] for place in lines} == lines
    assert not list(disturbed.paths(spec).checkpoints.glob("state-*"))


@pytest.mark.parametrize(("phase", "precision"), CASES)
def test_killed_at_five_random_steps_a_job_leaves_the_same_bytes(
    disturbed: Study, undisturbed: Study, tmp_path: Path, phase: str, precision: str | None
) -> None:
    spec = case_of(disturbed, phase, precision)
    paths, chance = disturbed.paths(spec), random.Random(f"{phase} {precision}")
    solves = phase in ("linear", "floor")
    pace, most = (SOLVER_PACE, SOLVER_BEATS) if solves else (PACE, MOST_BEATS)
    # One attempt at least closes an epoch, so that there is something to go on from.
    counts = chance.sample([most, *(chance.randint(1, most) for _ in range(4))], k=5)
    for attempt, count in enumerate(counts, start=1):
        beats = tmp_path / f"beats{attempt}"
        process = start(paths.job, attempt=attempt, beats=beats, pace=pace)
        wait_for_beat(beats, process, count)
        time.sleep(chance.uniform(0, 0.5 * pace if solves else 3 * pace))  # Somewhere in a step, a save, a validation.
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        assert ended(process) == -signal.SIGKILL
        assert not paths.result.exists()
    assert ended(start(paths.job, attempt=6)) == EXIT_DONE, said(paths)
    assert [attempt.number for attempt in paths.attempts()] == [1, 2, 3, 4, 5, 6]
    assert [event["kind"] for event in disturbed.events(spec)][-1] == "SUCCEEDED"
    if not solves:
        # The last attempt went on from a save of an earlier one.
        assert min(step for step, _ in disturbed.metrics_by_attempt(spec)[-1]) > 1
    assert_as_undisturbed(disturbed, undisturbed, spec)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.parametrize(("phase", "precision"), [("pretrain", "bf16"), ("tuned", "fp32")])
def test_a_signal_saves_at_the_next_step_and_the_job_goes_on_exactly(
    undisturbed: Study, tmp_path: Path, made: Path, phase: str, precision: str, signum: signal.Signals
) -> None:
    study, beats = lay(tmp_path, SWEEP, made=made), tmp_path / "beats"
    spec = case_of(study, phase, precision)
    process = start(study.paths(spec).job, beats=beats, pace=0.15)
    # A beat before the first step, one for its log, then one a step: two steps are done.
    wait_for_beat(beats, process, 4)
    assert process.pid is not None
    os.kill(process.pid, signum)
    done = len(beats.read_bytes()) - 2
    assert ended(process) == EXIT_STOPPED
    *_, saved, stopped = study.events(spec)
    assert (saved["kind"], stopped["kind"], stopped["resumable"]) == ("CHECKPOINTED", "STOPPED", True)
    assert saved["step"] in (done, done + 1)
    # Nothing was trained past the save, which is in the middle of the first epoch.
    assert len(beats.read_bytes()) == 2 + saved["step"] + 1
    latest = study.store(spec).latest_state()
    assert latest is not None
    assert torch.load(latest, weights_only=True)["progress"]["step"] == saved["step"]
    assert not study.store(spec).kept()
    # What safetensors leaves when it is killed in the middle of a write: its aside has a name of its own.
    (study.paths(spec).checkpoints / ".tmpq7Xa9Z").write_bytes(bytes(100))
    assert run_alone(study.paths(spec).job) == EXIT_DONE
    assert min(step for step, _ in study.metrics_by_attempt(spec)[-1]) > saved["step"]
    assert_as_undisturbed(study, undisturbed, spec)


def test_the_command_itself_is_asked_to_stop_and_the_job_goes_on(tmp_path: Path, made: Path) -> None:
    """`python -m jobs run`, watched through the files that it leaves, as a scheduler would."""
    sweep = SWEEP.replace("epochs: 8", "epochs: 40")
    study, whole = lay(tmp_path / "disturbed", sweep, made=made), lay(tmp_path / "undisturbed", sweep, made=made)
    spec = case_of(study, "frozen", "fp32")
    process = command(study, spec, 1)
    wait_for_epoch(study, spec, 1, 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == EXIT_STOPPED
    assert run_alone(study.paths(spec).job) == EXIT_DONE
    assert_as_undisturbed(study, whole, spec)


def command(study: Study, spec: JobSpec, attempt: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "jobs", "run", str(study.paths(spec).job), "--attempt", str(attempt)]
    return subprocess.Popen(arguments, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})


def wait_for_epoch(study: Study, spec: JobSpec, attempt: int, epoch: int, process: subprocess.Popen[bytes]) -> None:
    """Return when an attempt has saved an epoch and begun the next."""
    events, deadline = study.paths(spec).attempt(attempt).events, time.monotonic() + 120
    while True:
        lines = events.read_text(encoding="utf-8").split("\n")[:-1] if events.exists() else []
        if any(json.loads(line).get("epoch", -1) >= epoch for line in lines):
            return
        assert process.poll() is None, f"ended with {process.returncode} before epoch {epoch}"
        assert time.monotonic() < deadline
        time.sleep(0.002)
