"""A job beside the main thread: what it tells while it runs, after a resume, and how it is made to stop."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from jobs.events import read_events
from jobs.main import claim
from jobs.paths import JobPaths, RunPaths, write_atomically
from jobs.signals import EXIT_STOPPED
from jobs.spec import pretty_json, spec_to_json
from orchestrator.execution.beside import Beside
from orchestrator.execution.curve import Curve, Reading
from tests.orchestrator.standin import RUNNER, SCORE, search


def described(root: Path, curve: list[float], seconds: float = 0.0) -> JobPaths:
    spec = search("a", [curve], seconds=(seconds,))[0]
    paths = RunPaths(root).job(spec.job_id)
    write_atomically(paths.job, pretty_json(spec_to_json(spec)).encode())
    return paths


def line(epoch: int, value: float | None, name: str = SCORE) -> str:
    return json.dumps({"step": epoch, "epoch": epoch, "metrics": {name: value}}) + "\n"


def test_every_epoch_is_told_in_order_and_then_the_end(tmp_path: Path) -> None:
    paths = described(tmp_path, [0.1, 0.4, 0.3], seconds=0.2)
    beside = Beside(paths.job, 1, RUNNER, SCORE)
    told = [beside.next() for _ in range(4)]
    assert told == [Reading(epoch=1, value=0.1), Reading(epoch=2, value=0.4), Reading(epoch=3, value=0.3), None]
    assert (beside.finish(), beside.told) == (0, 3)
    assert paths.result.exists()


def test_a_resumed_job_tells_first_what_it_logged_before(tmp_path: Path) -> None:
    paths = described(tmp_path, [0.1, 0.2, 0.3, 0.4], seconds=0.4)
    first = claim(paths, 1)
    assert first is not None
    # It was killed in its fourth epoch, and its last checkpoint is of the second: the third is logged again.
    first.metrics.write_text(line(1, 0.1) + line(2, 0.2) + line(3, 0.3))
    (paths.folder / "progress").write_text("20")
    beside = Beside(paths.job, 2, RUNNER, SCORE)
    told = []
    while (reading := beside.next()) is not None:
        told.append(reading.epoch)
    assert told == [1, 2, 3, 4]
    assert [json.loads(text)["epoch"] for text in paths.attempt(2).metrics.read_text().splitlines()] == [3, 4]


def test_one_that_is_let_go_saves_and_stops_and_can_be_gone_on_with(tmp_path: Path) -> None:
    paths = described(tmp_path, [0.1] * 100, seconds=60)
    beside = Beside(paths.job, 1, RUNNER, SCORE)
    assert beside.next() is not None
    beside.stop()
    assert beside.finish() == EXIT_STOPPED
    assert read_events(paths.attempt(1).events)[-1]["resumable"] is True
    assert not [thread for thread in threading.enumerate() if thread.name == "job-1"]


def test_what_the_runner_raises_is_raised_where_it_is_waited_for(tmp_path: Path) -> None:
    paths = described(tmp_path, [0.1])
    beside = Beside(paths.job, 1, "tests.orchestrator.execution.test_beside:full", SCORE)
    assert beside.next() is None
    with pytest.raises(OSError, match="No space left"):
        beside.finish()


def full(job_file: Path, *, attempt: int) -> int:
    raise OSError(28, f"No space left on device: {job_file} {attempt}")


def test_a_curve_has_no_point_where_the_metric_is_none(tmp_path: Path) -> None:
    attempt = claim(JobPaths(tmp_path), 1)
    assert attempt is not None
    curve = Curve(JobPaths(tmp_path), SCORE)
    assert curve.news() == []
    attempt.metrics.write_text(line(1, 0.5) + line(2, None) + line(2, 0.7, "train/loss") + "no json\n" + line(3, 0.25))
    assert curve.news() == [Reading(epoch=1, value=0.5), Reading(epoch=3, value=0.25)]
    with attempt.metrics.open("a") as file:
        file.write(line(4, 0.1)[:-9])
        file.flush()
        assert curve.news() == [], "half a line waits for its other half"
        file.write(line(4, 0.1)[-9:])
    assert curve.news() == [Reading(epoch=4, value=0.1)]
