"""Exact resume: a run that is killed or asked to stop goes on bit for bit. Real processes, real signals."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from jobs.signals import EXIT_STOPPED, watch_signals
from tests.trainers import toy
from tests.trainers.toy import CPU, Config, FolderHost, Toy, measure
from trainers.errors import Error
from trainers.loop import fit, prepare

ROOT = Path(__file__).parents[2]
#: Children of one server that has imported all that a first step imports: a process each, without seconds of imports each.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.trainers.toy", "torch._dynamo", "pandas"])
CONFIGS = {
    "fp32": Config(precision="fp32", norm="layer", epochs=4),
    "bf16": Config(precision="bf16", norm="batch", epochs=4),  # In channels_last, as every net with two convolutions.
}


def start(folder: Path, config: Config, pace: float = 0.0) -> ForkServerProcess:
    """Start the toy job in a process of its own."""
    folder.mkdir(exist_ok=True)
    process = SERVER.Process(target=toy.run_and_exit, args=(folder, config, pace))
    # The server takes its import path from here when the first child starts it (Python 3.11 ignores the one it is handed).
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        process.start()
    return process


def finish(folder: Path, config: Config) -> int:
    """Run the toy job to its end and return the exit code."""
    process = start(folder, config)
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def steps(folder: Path) -> list[tuple[int, str]]:
    """Return what the job said of its steps: number and exact loss; a line torn by the kill is none."""
    file = folder / "steps"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [(entry["step"], entry["loss"]) for entry in map(json.loads, lines)]


def wait_for_step(folder: Path, process: ForkServerProcess, step: int) -> None:
    """Return when the job has said that it did a step."""
    deadline = time.monotonic() + 120
    while not any(number >= step for number, _ in steps(folder)):
        assert process.is_alive(), f"ended with {process.exitcode} before step {step}"
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(scope="module", params=list(CONFIGS))
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[int, str], dict[str, str]]:
    """Run a job without a disturbance: its config, its loss by step, and the sha256 of its final weights and kept files."""
    config, folder = CONFIGS[request.param], tmp_path_factory.mktemp("undisturbed")
    assert finish(folder, config) == 0
    said = dict(steps(folder))
    assert list(said) == list(range(1, 13))
    assert len(set(said.values())) > 6
    return config, said, outcome_of(folder)


def outcome_of(folder: Path) -> dict[str, str]:
    """Return the digest of the final weights and, of each kept checkpoint, the manifest: metrics and the sha256 of every file."""
    kept = FolderHost(folder / "checkpoints").store.kept()
    return {"final": (folder / "final").read_text(), **{entry["name"]: json.dumps(entry, sort_keys=True) for entry in kept}}


def assert_the_same(folder: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]]) -> None:
    _, losses, outcome = undisturbed
    said = steps(folder)
    assert {number for number, _ in said} == set(losses)
    # Steps that were done again after the last resume file count as well.
    assert [loss for number, loss in said if loss != losses[number]] == []
    assert outcome_of(folder) == outcome


@pytest.mark.parametrize("which", range(5))
def test_kill_at_a_random_step_and_resume_equals_an_undisturbed_run(
    tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]], which: int
) -> None:
    config = undisturbed[0]
    chance = random.Random(f"{config.precision} {which}")
    folder = tmp_path / "killed"
    process = start(folder, config, pace=0.05)
    wait_for_step(folder, process, chance.randint(1, 7))
    time.sleep(chance.uniform(0.0, 0.1))  # Somewhere in a step, a save or an epoch's end.
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not (folder / "final").exists()
    assert finish(folder, config) == 0
    assert_the_same(folder, undisturbed)


def test_killed_again_and_again_it_still_equals_an_undisturbed_run(
    tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]]
) -> None:
    config, folder = undisturbed[0], tmp_path / "killed"
    for step in (2, 4, 6, 8):
        process = start(folder, config, pace=0.05)
        wait_for_step(folder, process, step)
        process.kill()
        process.join(60)
    assert finish(folder, config) == 0
    assert_the_same(folder, undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_saves_at_the_next_step_and_the_run_goes_on_exactly(
    tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]], signum: signal.Signals
) -> None:
    config = dataclasses.replace(undisturbed[0], save_every_steps=0, save_every_epochs=4)
    folder = tmp_path / "stopped"
    process = start(folder, config, pace=0.2)
    wait_for_step(folder, process, 4)
    assert process.pid is not None
    os.kill(process.pid, signum)
    process.join(60)
    assert process.exitcode == EXIT_STOPPED
    done = [number for number, _ in steps(folder)]
    assert done[-1] in (4, 5)  # An epoch ends at 6.
    latest = FolderHost(folder / "checkpoints").latest_state()
    assert latest is not None
    # The save is of the very step that was the last to be done, in the middle of an epoch too.
    assert torch.load(latest, weights_only=True)["progress"]["step"] == done[-1]
    assert finish(folder, config) == 0
    assert [number for number, _ in steps(folder)] == list(range(1, 13))
    said = dict(steps(folder))
    assert said == undisturbed[1]
    assert (folder / "final").read_text() == undisturbed[2]["final"]


def test_a_rotten_last_resume_file_costs_steps_and_nothing_else(
    tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]]
) -> None:
    config, folder = undisturbed[0], tmp_path / "killed"
    process = start(folder, config, pace=0.02)
    wait_for_step(folder, process, 5)
    process.kill()
    process.join(60)
    newest = sorted((folder / "checkpoints").glob("state-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert finish(folder, config) == 0
    assert_the_same(folder, undisturbed)


def test_a_process_of_its_own_gives_what_a_used_one_gives(
    tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]]
) -> None:
    config = undisturbed[0]
    command = [sys.executable, "-m", "tests.trainers.toy", str(tmp_path), json.dumps(dataclasses.asdict(config)), "0"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert_the_same(tmp_path, undisturbed)
    prepare(1, 1, CPU)
    fit(Toy(Config(lr=0.3), 1), Config(lr=0.3), FolderHost(tmp_path / "other"), device=CPU)
    used = tmp_path / "used"
    used.mkdir()
    assert toy.main(used, config, 0.0) == 0
    assert_the_same(used, undisturbed)


# --- signals at awkward moments, in this process ------------------------------------------------------------------------------------------


class Interrupting(FolderHost):
    """A host that is hit by a signal, twice, in one of its calls."""

    def __init__(self, folder: Path, where: str, flag: Callable[[], bool]) -> None:
        super().__init__(folder, flag)
        self.where, self.hit = where, False

    def strike(self, where: str) -> None:
        if where == self.where and not self.hit:
            self.hit = True
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    def save_state(self, step: int, epoch: int, write: Callable[[Path], None]) -> None:
        def struck(path: Path) -> None:
            write(path)
            self.strike("save")

        super().save_state(step, epoch, struck)

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, Callable[[Path], None]], info: Mapping[str, Any]) -> None:
        self.strike("keep")
        super().keep(name, metrics, files, info)

    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        if step == 5:
            self.strike("step")
        super().log(step, epoch, metrics)


#: Where the signal falls, and the step at which the run stops: the one that is going on, or the next one to end.
MOMENTS = {"step": 5, "save": 3, "keep": 3, "validate": 3}


@pytest.mark.parametrize("where", MOMENTS)
def test_a_signal_while_saving_keeping_or_validating_loses_nothing(
    tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]], where: str
) -> None:
    config, losses, outcome = undisturbed
    prepare(7, 1, CPU)
    said: list[str] = []
    with watch_signals() as flag:
        host = Interrupting(tmp_path, where, flag.is_set)

        def struck(scores: Any) -> dict[str, float]:
            host.strike("validate")
            return measure(scores)

        monitor = {"metric": "val/right", "mode": "max"}
        first = fit(Toy(config, 7), config, host, device=CPU, measure=struck, monitor=monitor)
        assert not first.finished
        assert first.step == MOMENTS[where]
        said += host.losses()
    prepare(7, 1, CPU)
    again, trainer = FolderHost(tmp_path), Toy(config, 7)
    second = fit(trainer, config, again, device=CPU, measure=measure, monitor=monitor)
    assert second.finished
    assert said + again.losses() == list(losses.values())
    assert toy.weights_digest(trainer.module) == outcome["final"]


def test_a_stop_before_the_first_step_saves_and_goes_on(tmp_path: Path, undisturbed: tuple[Config, dict[int, str], dict[str, str]]) -> None:
    config, losses, _ = undisturbed
    prepare(7, 1, CPU)
    host = FolderHost(tmp_path, lambda: True)
    assert fit(Toy(config, 7), config, host, device=CPU).step == 0
    assert host.states == [(0, 0)]
    prepare(8, 1, CPU)  # Whatever the new process starts with, the state has its own.
    again = FolderHost(tmp_path)
    assert fit(Toy(config, 7), config, again, device=CPU).finished
    assert again.losses() == list(losses.values())


# --- what a run cannot go on with ---------------------------------------------------------------------------------------------------------


def stopped(folder: Path, config: Config) -> None:
    prepare(7, 1, CPU)
    host = FolderHost(folder)
    host.should_stop = lambda: len(host.losses()) >= 2
    assert not fit(Toy(config, 7), config, host, device=CPU).finished


def test_another_number_of_threads_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, Config())
    prepare(7, 2, CPU)
    try:
        with pytest.raises(Error, match=r"written with threads 1, and this run has threads 2, .*; resume with threads 1, or delete"):
            fit(Toy(Config(), 7), Config(), FolderHost(tmp_path), device=CPU)
    finally:
        prepare(7, 1, CPU)


def test_another_precision_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path, Config())
    config = Config(precision="bf16")
    with pytest.raises(Error, match="written with precision fp32, and this run has precision bf16"):
        fit(Toy(config, 7), config, FolderHost(tmp_path), device=CPU)


def test_another_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(tmp_path, Config())
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with pytest.raises(Error, match=r"this run has torch 9\.9\.9"):
        fit(Toy(Config(), 7), Config(), FolderHost(tmp_path), device=CPU)


def test_another_kind_of_cpu_is_said_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    stopped(tmp_path, Config())
    written_on = torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ANOTHER")
    assert fit(Toy(Config(), 7), Config(), FolderHost(tmp_path), device=CPU).finished
    assert f"written on a CPU with {written_on}, and this one has ANOTHER" in caplog.text


def test_a_method_whose_state_could_not_be_read_again_is_told_at_once(tmp_path: Path) -> None:
    class Careless(Toy):
        def state_dict(self) -> dict[str, Any]:
            return {"queue": {"keys": self.images}}

    with pytest.raises(TypeError, match=r"state_dict\(\)\['queue'\]\['keys'\] of a method is a ndarray: resume files hold tensors"):
        fit(Careless(Config(), 7), Config(), FolderHost(tmp_path), device=CPU)
