"""An attempt that another has taken over writes nothing more."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.checkpoints import CheckpointStore
from jobs.events import append_event, read_events
from jobs.fencing import is_superseded
from jobs.host import FileHost, Stopped
from jobs.main import claim
from jobs.paths import AttemptPaths, JobPaths
from jobs.spec import EventKind


def claimed(paths: JobPaths, number: int) -> AttemptPaths:
    found = claim(paths, number)
    assert found is not None
    return found


def write(path: Path) -> None:
    path.write_text("weights")


def test_the_last_claim_has_the_job(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    first = claimed(paths, 1)
    # A folder is no claim, and an earlier attempt takes nothing.
    paths.attempt(3).folder.mkdir()
    assert not is_superseded(first)
    second = claimed(paths, 2)
    assert is_superseded(first)
    assert not is_superseded(second)


def test_a_cancellation_takes_nothing_over_so_that_what_runs_can_save(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    first, tombstone = claimed(paths, 1), claimed(paths, 2)
    append_event(tombstone.events, EventKind.CANCELLED, message="cancelled by a person")
    assert not is_superseded(first)
    claimed(paths, 3)
    assert is_superseded(first)


def test_a_host_whose_attempt_was_taken_over_stops_instead_of_saving(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    first = claimed(paths, 1)
    store = CheckpointStore(paths.checkpoints)
    host = FileHost(first, store, lambda: False)
    host.save_state(1, 0, write)
    claimed(paths, 2)
    before = {path.name: path.read_bytes() for path in paths.checkpoints.iterdir()}
    with pytest.raises(Stopped):
        host.save_state(2, 0, write)
    with pytest.raises(Stopped):
        host.keep("epoch-0001", {}, {"safetensors": write}, {"step": 2, "epoch": 1})
    host.close()
    assert {path.name: path.read_bytes() for path in paths.checkpoints.iterdir()} == before
    assert [event["kind"] for event in read_events(first.events)] == ["CHECKPOINTED"]
