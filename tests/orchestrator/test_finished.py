"""Jobs with a result are read by a short way, which says what the long one says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.events import read_events
from jobs.paths import JobPaths
from jobs.spec import EventKind
from orchestrator.finished import finished, last_claimed, times_of


def write(paths: JobPaths, number: int, *events: object, claimed: bool = True, torn: str = "") -> None:
    attempt = paths.attempt(number)
    attempt.folder.mkdir(parents=True)
    if claimed:
        attempt.claim.touch()
    lines = [event if isinstance(event, str) else json.dumps(event, sort_keys=True) for event in events]
    attempt.events.write_text("".join(f"{line}\n" for line in lines) + torn, encoding="utf-8")


def event(kind: EventKind, time: float, **more: object) -> dict[str, object]:
    return {"kind": str(kind), "time": time, **more}


@pytest.fixture
def paths(tmp_path: Path) -> JobPaths:
    return JobPaths(tmp_path)


def test_a_job_without_a_result_or_with_an_empty_one_is_not_finished(paths: JobPaths) -> None:
    assert finished(str(paths.folder), details=True) is None
    paths.result.touch()
    assert finished(str(paths.folder), details=True) is None


def test_a_result_alone_is_enough(paths: JobPaths) -> None:
    paths.result.write_text("{}", encoding="utf-8")
    assert finished(str(paths.folder), details=False) == {}
    assert finished(str(paths.folder), details=True) == {"attempt": 0}


def test_it_says_of_the_last_claimed_attempt_what_all_its_events_say(paths: JobPaths) -> None:
    paths.result.write_text("{}", encoding="utf-8")
    saves = [event(EventKind.CHECKPOINTED, 10.0 + n, step=100 * n, epoch=n) for n in range(50)]
    write(paths, 1, event(EventKind.STARTED, 1.0), event(EventKind.STOPPED, 2.0, resumable=True))
    write(paths, 2, event(EventKind.STARTED, 9.0), *saves, "not json", "[]", event(EventKind.SUCCEEDED, 99.5), torn='{"kind": "FAI')
    write(paths, 3, claimed=False)
    found = finished(str(paths.folder), details=True)
    assert found == {"attempt": 2, "started": 9.0, "ended": 99.5, "step": 4900, "epoch": 49}
    assert found == {"attempt": 2, **times_of(read_events(paths.attempt(2).events))}


def test_attempts_are_counted_as_numbers(paths: JobPaths) -> None:
    for number in (9, 10, 2):
        write(paths, number)
    assert last_claimed(str(paths.folder)) == 10
