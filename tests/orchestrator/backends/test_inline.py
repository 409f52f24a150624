"""Jobs in this process, in a real client that is interrupted, killed and asked to cancel."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import ledger
from orchestrator.submit import cancel
from tests.orchestrator import client
from tests.orchestrator.client import press_ctrl_c, start, wait_until
from tests.orchestrator.standin import bodies

SECONDS = 2.0
OVER = client.chains("c", SECONDS, 2)
FIRST = OVER.jobs[0].job_id


@contextmanager
def running(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a client and wait until its first job is under way."""
    process = start(root, "inline", seconds=SECONDS, count=2)
    try:
        wait_until(lambda: progress(root) >= 20, "the first job to make progress")
        yield process
    finally:
        process.kill()
        process.communicate()


def progress(root: Path) -> int:
    file = RunPaths(root).job(FIRST).folder / "progress"
    return int(file.read_text()) if file.exists() else 0


def finish(root: Path) -> None:
    """Submit again in this process and check that everything is done, the first job going on from where it was."""
    before = progress(root)
    assert 20 <= before < 200
    summary = client.run_here(OVER, root)
    assert (summary.counts, summary.exit_code) == ({State.SUCCEEDED: 6}, 0)
    assert [number for number, _ in bodies(RunPaths(root).job(FIRST).folder)] == [1, 2]
    assert all(len(bodies(RunPaths(root).job(spec.job_id).folder)) == 1 for spec in OVER.jobs[1:])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_client_that_is_asked_to_stop_saves_and_the_same_command_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path) as process:
        process.send_signal(how)
        out, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors == ""
    said = json.loads(out.splitlines()[-1])
    assert said["halted"] is True
    assert said["counts"] == {"INTERRUPTED": 1, "NEW": 5}
    finish(tmp_path)


def test_a_second_ctrl_c_ends_it_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        press_ctrl_c(process)
        press_ctrl_c(process)
        process.communicate(timeout=30)
    assert process.returncode != 0
    finish(tmp_path)


def test_a_client_that_is_killed_is_gone_on_from(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        process.kill()
        process.communicate()
    assert ledger.state_of(RunPaths(tmp_path), FIRST).state is State.INTERRUPTED
    finish(tmp_path)


def test_a_running_job_is_cancelled_from_another_process_and_the_rest_goes_on(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    with running(tmp_path) as process:
        assert cancel(run, client.cluster(tmp_path, "inline"), [FIRST]) == ()
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert json.loads(out.splitlines()[-1])["counts"] == {"CANCELLED": 1, "NEW": 2, "SUCCEEDED": 3}
    assert 20 <= progress(tmp_path) < 200
    assert client.run_here(OVER, tmp_path).submitted == 0, "what a person cancelled stays so until resume"
