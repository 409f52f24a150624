"""What a plan asks sbatch about: each thing once, and never more than a handful."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jobs.spec import Resources
from orchestrator.backends.base import Queued
from orchestrator.backends.slurm import commands, forecast
from orchestrator.backends.slurm.backend import Slurm
from orchestrator.model import ClusterConfig, Partition, SlurmSite
from tests.orchestrator.standin import job


def cluster(folder: Path) -> ClusterConfig:
    return ClusterConfig(
        name="site",
        backend="slurm",
        run_root=folder,
        made_root=folder,
        account="lab",
        partitions=(Partition(name="gpu", gpus=4, cpus=32, memory_mb=256_000),),
        slurm=SlurmSite(canary=0, gres="gpu:a100", extra={"reservation": "mine"}),
    )


def queued(trial: str, **asked: int) -> Queued:
    resources = Resources(**{"gpus": 1, "cpus": 4, "memory_mb": 16_384, "time_minutes": 60, **asked})
    return Queued(spec=job(trial, resources=resources), attempt=1, resources=resources)


def test_options_are_those_of_the_script_as_the_command_line_takes_them(tmp_path: Path) -> None:
    (part,) = Slurm(cluster(tmp_path)).arrange("toy", [queued("a"), queued("b")])
    given = forecast.arguments(part.options)
    assert {"--partition=gpu", "--account=lab", "--gres=gpu:a100:1", "--time=60", "--mem=16384MB", "--reservation=mine"} <= set(given)
    assert all(option.startswith("--") and "_" not in option.split("=")[0] for option in given)
    assert forecast.in_words(part) == "1 GPU, 4 CPUs, 16 G, 60 min in 'gpu'"


class Sbatch:
    """Stands where the command would be called, and answers as it does."""

    def __init__(self, answer: str, code: int = 0) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._answer, self._code = answer, code

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        self.asked.append(command)
        return subprocess.CompletedProcess(command, self._code, "", self._answer)


def test_each_request_is_asked_about_once_and_the_rest_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = Sbatch("sbatch: Job 7 to start at 2026-03-01T14:00:30 using 4 processors on nodes n1 in partition gpu\n")
    monkeypatch.setattr(commands, "call", sbatch)
    jobs = [queued(f"{minutes}-{number}", time_minutes=minutes) for minutes in range(10, 18) for number in range(3)]
    found = forecast.forecast(Slurm(cluster(tmp_path)).arrange("toy", jobs))
    assert len(sbatch.asked) == forecast.QUESTIONS == len(found.starts)
    assert {(one.allocations, one.when) for one in found.starts} == {(3, "2026-03-01 14:00")}
    assert found.note == "and 3 other requests that were not asked about"
    assert all(command[:2] == ("sbatch", "--test-only") for command in sbatch.asked)


def test_a_request_that_slurm_refuses_says_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "call", Sbatch("sbatch: error: x\nallocation failure: Invalid partition name specified\n", 1))
    (start,) = forecast.forecast(Slurm(cluster(tmp_path)).arrange("toy", [queued("a")])).starts
    assert (start.when, start.note) == ("", "Invalid partition name specified")


def test_a_silent_controller_is_a_note_and_asked_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = Sbatch("sbatch: error: Socket timed out on send/recv operation\n", 1)
    monkeypatch.setattr(commands, "call", sbatch)
    found = forecast.forecast(Slurm(cluster(tmp_path)).arrange("toy", [queued("a"), queued("b", time_minutes=90)]))
    assert found.starts == ()
    assert "no expected start" in found.note and "timed out" in found.note
    assert len(sbatch.asked) == 1


def test_without_sbatch_there_is_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = forecast.forecast(Slurm(cluster(tmp_path)).arrange("toy", [queued("a")]))
    assert "there is no `sbatch` here" in found.note
