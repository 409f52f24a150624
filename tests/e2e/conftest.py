"""Running `orchestrate` as a person would, in a folder of its own, and killing it as a power cut would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def short_quickstart(folder: Path) -> Path:
    """Write a sweep `short`: the quickstart, every kind of its jobs and fewer of each (38 with --sample), for what is run several times."""
    sweep = folder / "short.yaml"
    text = f"sweep: short\nextends: {ROOT}/sweeps/quickstart.yaml\nsample: {{n: 240, max_jobs: 45, keep: {{lr: [1e-3], count: [64]}}}}\n"
    sweep.write_text(text, encoding="utf-8")
    return sweep


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One cluster config with a run root of its own."""

    folder: Path
    backend: str

    @property
    def config(self) -> Path:
        return self.folder / "here.yaml"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestrator", *arguments, "--cluster", str(self.config)]

    def run(self, *arguments: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=ROOT, check=False, timeout=timeout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own."""
        log = (self.folder / "started.log").open("a", encoding="utf-8")
        return subprocess.Popen(self.command(*arguments), stdout=log, stderr=log, text=True, cwd=ROOT, start_new_session=True)

    def root(self, *, sample: bool) -> Path:
        return self.folder / "runs" / "sample" if sample else self.folder / "runs"

    def results(self, *, sample: bool) -> dict[str, bytes]:
        """Return the bytes of every result by job id."""
        return {path.parent.name: path.read_bytes() for path in self.root(sample=sample).glob("jobs/*/*/result.json")}

    def report(self, sweep: str, *, sample: bool) -> bytes:
        return (self.root(sample=sample) / "sweeps" / sweep / "report" / "report.json").read_bytes()

    def status(self, sweep: str, *, sample: bool) -> dict[str, Any]:
        extra = ["--sample"] if sample else []
        return json.loads(self.run("status", sweep, "--json", *extra).stdout)[0]


@pytest.fixture
def site(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Site]:
    """Return a maker of sites by name and backend; made data is shared by all tests of the session."""
    made = tmp_path_factory.getbasetemp() / "made"

    def make(name: str, backend: str) -> Site:
        folder = tmp_path / name
        folder.mkdir()
        text = f"backend: {backend}\nrun_root: {folder}/runs\nmade_root: {made}\ncpus: 2\ngpus: 0\n"
        (folder / "here.yaml").write_text(text, encoding="utf-8")
        return Site(folder=folder, backend=backend)

    return make


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[-1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [pid], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def kill_everything(process: subprocess.Popen[str]) -> int:
    """SIGKILL a process and all its descendants, and return how many there were."""
    pids = family(process.pid)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    return len(pids)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], timeout: float = 600) -> bool:
    """Wait until a condition holds while a process runs; return False when the process ended first."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.05)
    raise TimeoutError("the condition never held")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Collect processes, and kill what a failing test leaves."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            kill_everything(process)
