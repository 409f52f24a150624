"""What a mistake costs and how work is called off, as a person types it: what each command prints, and what it exits with.

The commands, the cluster and the seam are real; only the stage on the nodes is the stand-in of `tests.orchestrator.standin`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from orchestrator.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_PERSON
from tests.e2e.conftest import Site
from tests.jobs.study import CARD
from tests.orchestrator.standin import bodies
from tests.slurm.client import NODE, ROOT
from tests.slurm.cluster import Cluster

METHOD = '''"""Nothing is learned: the stage on the nodes is a stand-in."""
from dataclasses import dataclass

NAME = "rehearsed"
VERSION = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    px: int = 32
    number: int = 0
    seconds: float = 0.0
    slow: tuple[int, ...] = ()
    fail: str = "ERROR"
    fail_while: str = "/nowhere"
'''
SWEEP = """sweep: typed
data: tiny
phases:
  many:
    trainer: rehearsed
    config: {{fail_while: {typo}, slow: [1]}}
    compare: {{{axis}}}
    resources: {{cpus: 1, gpus: {gpus}, memory: 500M, time: 10m}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A sweep and a cluster config in a folder, and somebody who types commands at them."""

    site: Site
    slurm: Cluster
    #: While this file is there every job fails at one place, as code with a typo does.
    typo: Path

    @property
    def sweep(self) -> str:
        return str(self.site.folder / "typed.yaml")

    def types(self, *words: str, code: int = EXIT_DONE) -> str:
        """Type a command, see what it exits with and that it says nothing on stderr unless it is refused, and return what it prints."""
        done = self.site.run(*words)
        assert done.returncode == code, done.stdout + done.stderr
        assert bool(done.stderr) is (code == EXIT_PERSON), done.stderr
        return done.stdout

    def is_refused(self, *words: str) -> str:
        """Type a command that a person has to put something right for, and return the one sentence that it says."""
        done: subprocess.CompletedProcess[str] = self.site.run(*words)
        assert done.returncode == EXIT_PERSON, done.stdout + done.stderr
        (sentence,) = done.stderr.splitlines()
        return sentence

    def jobs(self) -> list[dict[str, Any]]:
        return self.site.status("typed", sample=False)["jobs"]

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        self.slurm.wait_until(condition, what=what)

    def bodies_run(self) -> int:
        run = RunPaths(self.site.root(sample=False))
        return sum(len(bodies(folder)) for folder in (run.root / "jobs").glob("*/*"))


@pytest.fixture
def desk(tmp_path: Path, slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Desk]:
    """Return a maker of desks by the axis of the sweep, the GPUs of a job, and lines of the cluster config."""
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)

    def make(axis: str, *lines: str, gpus: int = 0) -> Desk:
        typo = tmp_path / "typo"
        config = [
            "backend: slurm",
            f"run_root: {tmp_path}/runs",
            f"made_root: {tmp_path}/made",
            f"card_paths: [{tmp_path}/cards]",
            f"trainer_paths: [{tmp_path}/methods]",
            "partitions: {normal: {gpus: 2, cpus: 4, memory: 16G}}",
            f'setup: ["export PYTHONPATH={NODE}:{ROOT}"]',
            *lines,
        ]
        sweep = SWEEP.format(typo=typo, axis=axis, gpus=gpus)
        method = {"methods/rehearsed/__init__.py": "", "methods/rehearsed/config.py": METHOD, "methods/rehearsed/train.py": ""}
        texts = {"typed.yaml": sweep, "here.yaml": "\n".join([*config, ""]), "cards/tiny.yaml": CARD, **method}
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return Desk(site=Site(folder=tmp_path, backend="slurm"), slurm=slurm, typo=typo)

    return make


def test_a_typo_in_300_jobs_costs_one_and_a_sweep_is_called_off(desk: Callable[..., Desk]) -> None:
    at = desk(f"number: {list(range(300))}", "slurm: {parallel: 2}")
    at.typo.touch()
    said = at.types("submit", at.sweep)
    assert "typed: 300 jobs handed over; 300 submitted\nyou may log out:\n  Slurm: starts them" in said
    at.wait_until(lambda: not at.slurm.squeue(), what="for the canary to stop the sweep")
    said = at.types("status", "typed")
    assert "typed: 0 of 300 done" in said
    assert re.search(r"nothing of it starts: the sweep was stopped: the first job, [0-9a-f]{12}, failed with 'ValueError: as told'", said)
    assert "1 failed, such as" in said
    assert at.bodies_run() == 1
    (failed,) = [row["job"] for row in at.jobs() if row["state"] == "FAILED"]
    said = at.types("explain", failed[:8])
    assert "state: failed, attempt 1 [ERROR]: ValueError: as told" in said and "  | ValueError: as told\n" in said
    said = at.is_refused("submit", at.sweep)
    assert "the sweep was stopped: the first job, " in said and said.endswith("put it right, then type `orchestrate resume`")
    assert (at.bodies_run(), at.slurm.squeue()) == (1, {})
    # Put right, it goes on; and is called off whatever has begun by then.
    at.typo.unlink()
    assert "typed: 300 jobs handed over; " in at.types("resume", at.sweep)
    assert at.types("cancel", "typed") == "asked to cancel what is queued or running of typed\n"
    at.wait_until(lambda: not at.slurm.squeue(), what="for the queue to be empty")
    left = [row["state"] for row in at.jobs()]
    assert set(left) <= {"SUCCEEDED", "CANCELLED"} and "CANCELLED" in left


def test_one_job_of_a_sweep_is_called_off_until_it_is_resumed(desk: Callable[..., Desk]) -> None:
    # The first takes a minute unless it is started again, the other nothing.
    at = desk("seconds: [6.0, 0.0]")
    at.types("submit", at.sweep)
    at.wait_until(lambda: at.bodies_run() == 2, what="for both to run")
    off, on = (row["job"] for row in at.jobs())
    assert at.types("cancel", off[:10]) == f"asked to cancel what is queued or running of {off[:10]}\n"
    assert at.is_refused("cancel", "nothing1").startswith("no job starts with 'nothing1' in ")
    at.wait_until(lambda: not at.slurm.squeue(), what="for both to end")
    assert {row["job"]: row["state"] for row in at.jobs()} == {off: "CANCELLED", on: "SUCCEEDED"}
    assert "state: cancelled, attempt 2: cancelled by a person\n" in at.types("explain", off[:10])
    said = at.types("submit", at.sweep, code=EXIT_FAILED)
    assert "typed: 0 jobs handed over; 1 cancelled, 1 succeeded\nleft: 1 job (cancelled, waits for resume)\nfor you: " in said
    said = at.types("resume", at.sweep, "--jobs", off[:10], "--wait")
    assert "typed: 1 job run in " in said and "; 2 succeeded\n" in said
    assert at.bodies_run() == 3


def test_gpu_hours_are_refused_at_a_start_and_at_a_submission(desk: Callable[..., Desk]) -> None:
    at = desk("seconds: [600.0, 0.0]", "limits: {gpu_hours: 0.001}", "slurm: {parallel: 1}", gpus=1)
    assert "stop when its 0.001 GPU-hours are used" in at.types("submit", at.sweep)
    at.wait_until(lambda: not at.slurm.squeue(), what="for the budget to end both")
    assert at.bodies_run() == 1
    used = r"0\.\d+ of 0\.001 GPU-hours are used; raise `limits: \{gpu_hours: \.\.\.\}` of the cluster config and submit again"
    said = at.types("status", "typed")
    assert re.search(f"nothing of it starts: {used}", said) and re.search(r"0\.\d+ of 0\.001 GPU-hours used", said)
    begun, refused = at.jobs()
    assert (begun["state"], refused["state"]) == ("INTERRUPTED", "NEW")
    assert re.search(rf"  \| {refused['job'][:12]}: not started: {used}", at.types("explain", refused["job"][:12]))
    assert re.fullmatch(used, at.is_refused("submit", at.sweep))
    assert (at.bodies_run(), at.slurm.squeue()) == (1, {})
