"""What a job prints, read while it is written, through attempts, until nobody runs it any more."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.events import append_event, process_identity
from jobs.paths import AttemptPaths
from jobs.spec import EventKind, FailureKind
from orchestrator import intents, output
from orchestrator.errors import Error
from orchestrator.model import ClusterConfig
from orchestrator.output import Follower, log_of, tail_of
from orchestrator.workspace import Workspace
from tests.orchestrator.standin import job

SPEC = job("t")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "READ_EVERY", 0.01)
    monkeypatch.setattr(output, "LOOK_EVERY", 0.02)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(cluster=ClusterConfig(name="here", backend="inline", run_root=tmp_path, made_root=tmp_path))


def start(workspace: Workspace, number: int, text: str) -> AttemptPaths:
    """Begin an attempt that this process runs."""
    attempt = workspace.run.job(SPEC.job_id).attempt(number)
    attempt.folder.mkdir(parents=True)
    attempt.claim.write_text(json.dumps(process_identity()), encoding="utf-8")
    append_event(attempt.events, EventKind.STARTED, **process_identity())
    attempt.stdout.write_text(text, encoding="utf-8")
    return attempt


def add(attempt: AttemptPaths, text: str) -> None:
    with attempt.stdout.open("a", encoding="utf-8") as file:
        file.write(text)


class Reader:
    """Follows a job beside the test, and tells what it has read so far."""

    def __init__(self, workspace: Workspace) -> None:
        self.said: list[str] = []
        self.read = ""
        self._seen = threading.Condition()
        self._follower = Follower(workspace, SPEC, say=self.said.append)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), f"it did not end; read so far: {self.read!r}"

    def _run(self) -> None:
        for piece in self._follower.text():
            with self._seen:
                self.read += piece
                self._seen.notify_all()

    def wait_for(self, text: str) -> None:
        with self._seen:
            assert self._seen.wait_for(lambda: text in self.read, timeout=30), f"{text!r} did not come: {self.read!r}"


@pytest.fixture
def covered(workspace: Workspace) -> Iterator[str]:
    """A submission of this process that answers for the job."""
    intent = intents.new_intent(backend="inline", sweep="toy", jobs={SPEC.job_id: 1})
    intents.record(workspace.run, intent)
    yield intent.sid
    intents.end(workspace.run, intent.sid)


def test_it_reads_on_across_attempts_and_ends_with_the_job(workspace: Workspace, covered: str) -> None:
    first = start(workspace, 1, "one\n")
    with Reader(workspace) as reader:
        reader.wait_for("one\n")
        add(first, "two\n")
        reader.wait_for("two\n")
        append_event(first.events, EventKind.STOPPED, resumable=True)
        second = start(workspace, 2, "again\n")
        reader.wait_for("again\n")
        add(second, "last words\n")
        append_event(second.events, EventKind.FAILED, failure=str(FailureKind.ERROR), message="no", for_people=False)
    assert reader.read == "one\ntwo\nagain\nlast words\n"
    assert reader.said == ["--- attempt 2"]


def test_it_waits_for_a_job_that_is_queued(workspace: Workspace, covered: str) -> None:
    with Reader(workspace) as reader:
        while not reader.said:
            threading.Event().wait(0.01)
        attempt = start(workspace, 1, "hello\n")
        reader.wait_for("hello\n")
        append_event(attempt.events, EventKind.CANCELLED, message="enough")
    assert len(reader.said) == 1 and "has not started yet" in reader.said[0]


def test_a_job_that_ended_is_printed_and_left(workspace: Workspace) -> None:
    attempt = start(workspace, 1, "all of it\n")
    workspace.run.job(SPEC.job_id).result.write_text("{}", encoding="utf-8")
    append_event(attempt.events, EventKind.SUCCEEDED)
    with Reader(workspace) as reader:
        pass
    assert (reader.read, reader.said) == ("all of it\n", [])


def test_a_job_that_nobody_runs_or_will_run_is_not_waited_for(workspace: Workspace) -> None:
    with Reader(workspace) as reader:
        pass
    assert (reader.read, reader.said) == ("", [])
    with pytest.raises(Error, match="was never started; `orchestrate explain"):
        log_of(workspace, SPEC)


def test_the_last_lines_of_a_long_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("".join(f"{number}\n" for number in range(100_000)), encoding="utf-8")
    assert tail_of(file, 3) == ["99997", "99998", "99999"]
    file.write_bytes(b"\xff\xfebroken\n")
    assert len(tail_of(file, 5)) == 1
