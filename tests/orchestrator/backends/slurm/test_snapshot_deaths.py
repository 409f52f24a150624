"""A client killed at any moment of copying the code: there is a whole copy under its name, or none, and the next client makes it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator.backends.slurm import snapshot
from orchestrator.model import ClusterConfig
from tests.slurm.fault_points import Points

CLUSTER = ClusterConfig(name="here", backend="slurm", run_root=Path("runs"), made_root=Path("made"))


def in_child(do: Callable[[], None]) -> int:
    """Run a function in a process of its own, and return how that ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """Make a small tree of the three packages."""
    root = tmp_path / "origin"
    for package in snapshot.PACKAGES:
        (root / package / "inner").mkdir(parents=True)
        for name in ("__init__.py", "inner/one.py", "inner/two.yaml"):
            (root / package / name).write_text(f"{package} {name}\n" * 20)
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def take(run: RunPaths, origin: Path, at: int | None, labels: Path) -> None:
    points = Points(run.root, at=at)
    points.install()
    snapshot.take(run, CLUSTER, origin)
    points.before("the end")
    labels.write_text(json.dumps(points.labels))


def test_a_client_killed_while_it_copies_the_code_leaves_a_whole_copy_or_none(tmp_path: Path, origin: Path) -> None:
    passed = tmp_path / "passed.json"
    first = RunPaths(tmp_path / "0")
    assert in_child(lambda: take(first, origin, None, passed)) == 0
    whole = content(snapshot.code_folder(first, CLUSTER, origin))
    labels = json.loads(passed.read_text())
    assert len(labels) > 3 * len(whole) / 2
    for at in range(1, len(labels) + 1):
        run = RunPaths(tmp_path / str(at))
        code = in_child(lambda run=run, at=at: take(run, origin, at, tmp_path / "none"))
        assert code == -signal.SIGKILL, labels[at - 1]
        promised = snapshot.code_folder(run, CLUSTER, origin)
        assert not promised.exists() or content(promised) == whole, labels[at - 1]
        assert content(snapshot.take(run, CLUSTER, origin)) == whole, labels[at - 1]
