"""A cluster starts whole or not at all, and leaves nothing running whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, ClusterFailed, Settings, running_cluster

pytestmark = pytest.mark.needs("slurm")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        yield Path(name)


def processes_of(folder: Path) -> dict[int, str]:
    """Find every process that names a folder in its command line or its environment, and its command line; this process left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command + environment:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def start_detached_job(cluster: Cluster) -> Path:
    """Run a job that leaves a process in a session of its own, and return the file with that process's id."""
    told = cluster.layout.folder / "detached"
    cluster.submit("--output=/dev/null", f"--wrap=setsid sh -c 'echo $$ > {told}; exec sleep 300'; sleep 300")
    cluster.wait_until(lambda: told.exists() and told.read_text().strip(), what="for the job to run")
    return told


def test_nothing_is_left_after_the_end(folder: Path) -> None:
    with running_cluster(folder, Settings(accounting=False)) as cluster:
        detached = int(start_detached_job(cluster).read_text())
        running = processes_of(folder)
        assert detached in running
        assert all(any(name in command for command in running.values()) for name in ("munged", "slurmctld", "slurmd -D", "slurmstepd"))
    assert processes_of(folder) == {}


def test_a_start_that_fails_half_way_names_the_cause_and_leaves_nothing(folder: Path) -> None:
    with (
        pytest.raises(ClusterFailed, match="slurmctld ended") as failure,
        running_cluster(folder, Settings(extra=("PartitionName=broken Nodes=n9 State=UP",))),
    ):
        pass
    assert "n9" in str(failure.value)
    assert (folder / "log" / "slurmdbd.log").stat().st_size > 0
    assert processes_of(folder) == {}


def test_nothing_is_left_when_the_one_who_started_it_is_killed(folder: Path) -> None:
    script = f"""\
import time
from pathlib import Path
from tests.slurm.cluster import Settings, running_cluster
from tests.slurm.test_starting import start_detached_job
with running_cluster(Path({str(folder)!r}), Settings(accounting=False)) as cluster:
    start_detached_job(cluster)
    print("running", flush=True)
    time.sleep(300)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "running\n"
        running = processes_of(folder)
        starter.send_signal(signal.SIGKILL)
    assert any("slurmstepd" in command for command in running.values())
    deadline = time.monotonic() + 60
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(folder) == {}


def test_a_folder_too_deep_for_unix_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="characters at most"):
        Cluster(tmp_path / ("deep" * 20))
