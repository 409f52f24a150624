"""Where jobs stand, from files alone: every state, every torn file, live and dead owners, other hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.events import append_event, process_identity
from jobs.main import claim
from jobs.paths import AttemptPaths, RunPaths
from jobs.spec import EventKind, FailureKind, Json, State
from orchestrator import intents, ledger
from orchestrator.errors import LedgerError
from orchestrator.intents import Intent
from orchestrator.ledger import JobStatus
from orchestrator.sightings import Sighting

JOB = "ab" + "0" * 62


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path)


@pytest.fixture(scope="module")
def dead() -> dict[str, Json]:
    """Return the identity of a process of this host that has ended."""
    code = "import json; from jobs.events import process_identity; print(json.dumps(process_identity()))"
    root = Path(__file__).parents[2]
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=root).stdout)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that lives as long as the test."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def attempt(
    run: RunPaths, number: int = 1, *events: tuple[EventKind, dict[str, Json]], owner: dict[str, Json] | None = None
) -> AttemptPaths:
    """Leave an attempt as a job would: claimed by this process or an owner, with these events."""
    paths = claim(run.job(JOB), number)
    assert paths is not None
    if owner is not None:
        paths.claim.write_text(json.dumps(owner))
    for kind, fields in events:
        append_event(paths.events, kind, **fields)
    return paths


def state(run: RunPaths, **how: object) -> JobStatus:
    return ledger.state_of(run, JOB, **how)


def intend(run: RunPaths, owner: dict[str, Json] | None = None, *, number: int = 1, detaches: bool = False, native: bool = False) -> Intent:
    intent = intents.new_intent(backend="any", sweep="s", jobs={JOB: number}, detaches=detaches)
    if owner is not None:
        intent = replace(intent, owner=owner)
    if native:
        intent = replace(intent, native={"id": "7"})
    intents.record(run, intent)
    return intent


STARTED = (EventKind.STARTED, {})


def failed(kind: FailureKind) -> tuple[EventKind, dict[str, Json]]:
    return EventKind.FAILED, {"failure": str(kind), "message": "why"}


def test_nothing_there_is_new(run: RunPaths) -> None:
    assert state(run) == JobStatus(job_id=JOB, state=State.NEW)


def test_a_result_is_success_whatever_else_there_is(run: RunPaths, dead: dict[str, Json]) -> None:
    attempt(run, 1, STARTED, owner=dead)
    run.job(JOB).result.write_text("{}")
    assert state(run).state is State.SUCCEEDED


def test_an_empty_result_is_none(run: RunPaths) -> None:
    attempt(run, 1, STARTED, (EventKind.SUCCEEDED, {}))
    run.job(JOB).result.touch()
    found = state(run)
    assert (found.state, found.next_attempt) == (State.INTERRUPTED, 2)
    assert "empty" in found.message


@pytest.mark.parametrize(
    ("event", "expected", "failure"),
    [
        (failed(FailureKind.ERROR), State.FAILED, FailureKind.ERROR),
        (failed(FailureKind.DIVERGED), State.FAILED, FailureKind.DIVERGED),
        (failed(FailureKind.PREEMPTED), State.INTERRUPTED, FailureKind.PREEMPTED),
        (failed(FailureKind.NODE_FAIL), State.INTERRUPTED, FailureKind.NODE_FAIL),
        ((EventKind.FAILED, {"failure": "a kind of tomorrow"}), State.FAILED, FailureKind.ERROR),
        ((EventKind.FAILED, {}), State.FAILED, FailureKind.ERROR),
        ((EventKind.STOPPED, {"resumable": True}), State.INTERRUPTED, FailureKind.PREEMPTED),
        ((EventKind.STOPPED, {}), State.STOPPED, None),
        ((EventKind.CANCELLED, {}), State.CANCELLED, None),
    ],
)
def test_the_event_that_ended_the_last_attempt_decides(
    run: RunPaths, event: tuple[EventKind, dict[str, Json]], expected: State, failure: FailureKind | None
) -> None:
    attempt(run, 1, STARTED, failed(FailureKind.BAD_DATA))
    attempt(run, 2, STARTED, (EventKind.CHECKPOINTED, {"step": 5, "epoch": 1}), event)
    found = state(run)
    assert (found.state, found.failure, found.attempt, found.step) == (expected, failure, 2, 5)


def test_it_is_counted_how_often_a_job_lacked_the_same(run: RunPaths) -> None:
    for number, failure in enumerate(("HOST_OOM", "ERROR", "HOST_OOM"), 1):
        attempt(run, number, (EventKind.FAILED, {"failure": failure}))
    assert ledger.state_of(run, JOB).repeats == 2
    attempt(run, 4, (EventKind.FAILED, {"failure": "ERROR"}))
    assert ledger.state_of(run, JOB).repeats == 0


def test_a_job_that_a_search_stopped_knows_which_rule_it_was(run: RunPaths) -> None:
    rule = {"scheduler": "asha", "metric": "val/loss", "mode": "min", "grace": 1}
    attempt(run, 1, STARTED, (EventKind.STOPPED, {"search": rule, "message": "was losing"}))
    found = state(run)
    assert (found.state, found.stopped_by, found.message, found.failure) == (State.STOPPED, rule, "was losing", None)


def test_a_claim_without_an_end_is_running_while_its_process_lives(run: RunPaths, dead: dict[str, Json]) -> None:
    paths = attempt(run, 1, STARTED)
    assert state(run).state is State.RUNNING
    paths.claim.write_text(json.dumps(dead))
    found = state(run)
    assert (found.state, found.failure) == (State.INTERRUPTED, FailureKind.LOST)


def test_a_claim_before_its_first_event_is_running(run: RunPaths) -> None:
    attempt(run, 1)
    assert state(run).state is State.RUNNING


def test_a_folder_that_nobody_claimed_is_no_attempt(run: RunPaths) -> None:
    run.job(JOB).attempt(1).folder.mkdir(parents=True)
    assert state(run).next_attempt == 1


@pytest.mark.parametrize("changed", [{"boot": "another"}, {"started": 1}])
def test_a_process_number_that_was_given_out_again_is_not_the_owner(
    run: RunPaths, stranger: subprocess.Popen[bytes], changed: dict[str, Json]
) -> None:
    attempt(run, 1, STARTED, owner={**process_identity(), "pid": stranger.pid, **changed})
    assert state(run).state is State.INTERRUPTED


def test_torn_files_are_read_as_far_as_they_go(run: RunPaths, dead: dict[str, Json]) -> None:
    paths = attempt(run, 1, STARTED, owner=dead)
    with paths.events.open("a") as file:
        file.write('{"kind": "SUCCEE')
    assert state(run).state is State.INTERRUPTED
    paths.claim.write_text('{"host')
    assert state(run).state is State.INTERRUPTED


# --- intents -----------------------------------------------------------------------------------------------------------------------------


def test_an_intent_is_submitted_while_its_owner_lives(run: RunPaths, dead: dict[str, Json]) -> None:
    intent = intend(run)
    found = state(run)
    assert (found.state, found.submission) == (State.SUBMITTED, intent.sid)
    assert state(run, ignoring=intent.sid).state is State.NEW
    intents.end(run, intent.sid)
    assert state(run).state is State.NEW
    intend(run, dead)
    assert state(run).state is State.NEW


def test_a_new_intent_outweighs_an_attempt_that_failed_and_a_dead_one_does_not(run: RunPaths, dead: dict[str, Json]) -> None:
    attempt(run, 1, STARTED, failed(FailureKind.ERROR))
    intend(run, dead, number=2)
    assert state(run).state is State.FAILED
    intend(run, number=2)
    assert (state(run).state, state(run).attempt) == (State.SUBMITTED, 1)
    attempt(run, 2, STARTED, failed(FailureKind.ERROR))
    assert state(run).state is State.FAILED


def test_a_live_owner_answers_for_a_worker_that_died(run: RunPaths, dead: dict[str, Json]) -> None:
    intent = intend(run)
    attempt(run, 1, STARTED, owner=dead)
    assert state(run).state is State.SUBMITTED
    assert state(run, ignoring=intent.sid).state is State.INTERRUPTED


def test_the_owner_on_another_host_lives_while_it_shows_signs_of_life(run: RunPaths) -> None:
    far = {**process_identity(), "host": "another-host"}
    intent = intend(run, far)
    attempt(run, 1, STARTED, owner=far)
    assert state(run).state is State.RUNNING
    beat = run.submissions / f"{intent.sid}.beat"
    past = beat.stat().st_mtime - intents.STALE_AFTER - 5
    os.utime(beat, (past, past))
    assert state(run).state is State.INTERRUPTED


def test_a_job_on_another_host_that_nobody_answers_for_is_unknown(run: RunPaths) -> None:
    attempt(run, 1, STARTED, owner={**process_identity(), "host": "another-host"})
    found = state(run)
    assert found.state is State.UNKNOWN
    assert "another-host" in found.message


@pytest.mark.parametrize(
    ("polled", "queued", "started"),
    [
        (None, State.UNKNOWN, State.UNKNOWN),
        ({}, State.UNKNOWN, State.UNKNOWN),
        ({JOB: Sighting(state=State.SUBMITTED)}, State.SUBMITTED, State.SUBMITTED),
        ({JOB: Sighting(state=State.RUNNING)}, State.SUBMITTED, State.RUNNING),
        ({JOB: Sighting(state=State.UNKNOWN)}, State.UNKNOWN, State.UNKNOWN),
        ({JOB: Sighting(state=State.CANCELLED, word="CANCELLED")}, State.NEW, State.INTERRUPTED),
        ({JOB: Sighting(state=State.FAILED, failure=FailureKind.NODE_FAIL, word="NODE_FAIL")}, State.NEW, State.INTERRUPTED),
        ({JOB: Sighting(state=State.FAILED, failure=FailureKind.TIMEOUT, word="TIMEOUT")}, State.NEW, State.FAILED),
        ({JOB: Sighting(state=State.FAILED, failure=FailureKind.HOST_OOM, word="OUT_OF_MEMORY")}, State.NEW, State.FAILED),
    ],
)
def test_where_jobs_outlive_the_client_the_scheduler_is_asked(
    run: RunPaths, dead: dict[str, Json], polled: dict[str, Sighting] | None, queued: State, started: State
) -> None:
    intend(run, dead, detaches=True, native=True)
    assert state(run, polled=polled).state is queued
    attempt(run, 1, STARTED, owner={**process_identity(), "host": "node7"})
    found = state(run, polled=polled)
    assert found.state is started
    sighting = (polled or {}).get(JOB)
    assert found.failure is (
        None if sighting is None or started not in (State.INTERRUPTED, State.FAILED) else sighting.failure or FailureKind.LOST
    )


def test_an_intent_that_has_no_native_id_yet_is_in_flight_for_two_minutes(run: RunPaths, dead: dict[str, Json]) -> None:
    intent = intend(run, dead, detaches=True)
    assert state(run).state is State.SUBMITTED
    file = run.submissions / f"{intent.sid}.json"
    past = file.stat().st_mtime - intents.STALE_AFTER - 5
    os.utime(file, (past, past))
    found = state(run)
    assert (found.state, found.submission) == (State.UNKNOWN, None), "the scheduler may have it: nobody submits it before that is known"
    assert "its client died" in found.message
    intents.give_up(run, [intent.sid])
    assert state(run).state is State.NEW


@pytest.mark.parametrize("end", [None, (EventKind.STOPPED, {"resumable": True}), failed(FailureKind.PREEMPTED)])
def test_what_an_intent_in_doubt_has_started_is_not_started_again(
    run: RunPaths, dead: dict[str, Json], end: tuple[EventKind, dict[str, Json]] | None
) -> None:
    intent = intend(run, dead, detaches=True)
    attempt(run, 1, STARTED, *([end] if end else []), owner={**dead, "host": "node7"})
    file = run.submissions / f"{intent.sid}.json"
    past = file.stat().st_mtime - intents.STALE_AFTER - 5
    os.utime(file, (past, past))
    assert state(run).state is State.UNKNOWN


def test_what_a_scheduler_says_of_another_submission_of_the_job_is_not_heard(run: RunPaths) -> None:
    """An answer may be older than the submission that has the job by now."""
    intend(run, detaches=True, native=True)
    old = {JOB: Sighting(state=State.FAILED, word="FAILED", native="6_3")}
    assert state(run, polled=old).state is State.UNKNOWN
    own = {JOB: Sighting(state=State.FAILED, word="FAILED", native="7_3")}
    assert state(run, polled=own).state is State.NEW


def test_an_owner_that_cannot_be_seen_is_known_by_its_heart(run: RunPaths, stranger: subprocess.Popen[bytes]) -> None:
    """A client in a container, under the host's name: its number means another process here, or none."""
    intent = intend(run, {**process_identity(), "pid": stranger.pid, "pids": "pid:[1]"}, detaches=True)
    (held,) = intents.open_intents(run)
    assert (held.live, held.orphaned) == (True, False)
    for kind in ("beat", "json"):
        file = run.submissions / f"{intent.sid}.{kind}"
        past = file.stat().st_mtime - intents.STALE_AFTER - 5
        os.utime(file, (past, past))
    (held,) = intents.open_intents(run)
    assert (held.live, held.orphaned) == (False, False)
    intents.beat(run, intent.sid)
    (held,) = intents.open_intents(run)
    assert held.live


def test_an_owner_that_is_gone_leaves_an_orphan_that_counts_as_live_while_it_is_young(run: RunPaths, dead: dict[str, Json]) -> None:
    intend(run, dead, detaches=True)
    (held,) = intents.open_intents(run)
    assert (held.live, held.orphaned) == (True, True)


def test_an_intent_comes_back_as_it_was_written(run: RunPaths) -> None:
    intent = intents.record_native(run, intend(run, detaches=True), {"id": "1_2"})
    (held,) = intents.open_intents(run)
    assert (held.intent, held.live) == (intent, True)
    assert intent is not None
    assert intents.open_intents(run, ignoring=intent.sid) == []


def test_a_number_does_not_bring_back_what_was_put_away_and_the_first_one_stays(run: RunPaths) -> None:
    intent = intend(run, detaches=True)
    first = intents.record_native(run, intent, {"id": "1", "array": False})
    assert intents.record_native(run, intent, {"id": "2", "array": False}) == first
    intents.give_up(run, [intent.sid])
    assert len(intents.open_intents(run)) == 1, "somebody found out that it was made"
    intents.end(run, intent.sid)
    assert intents.record_native(run, intent, {"id": "1", "array": False}) is None
    intents.beat(run, intent.sid)
    assert intents.open_intents(run) == []
    assert not (run.submissions / f"{intent.sid}.beat").exists()


def test_what_is_no_intent_is_named(run: RunPaths) -> None:
    run.submissions.mkdir()
    (run.submissions / "x.json").write_text('{"sid": "x"}')
    with pytest.raises(LedgerError, match=r"x\.json: not the record of a submission"):
        intents.open_intents(run)


def test_requests_to_cancel_add_up(run: RunPaths) -> None:
    intent = intend(run)
    intents.ask_to_cancel(run, intent.sid, ["b"])
    intents.ask_to_cancel(run, intent.sid, ["a", "b"])
    assert intents.cancel_requests(run, intent.sid) == {"a", "b"}
    intents.end(run, intent.sid)
    assert intents.cancel_requests(run, intent.sid) == frozenset()


# --- tombstones --------------------------------------------------------------------------------------------------------------------------


def test_a_tombstone_cancels_and_takes_the_next_attempt_from_everybody(run: RunPaths) -> None:
    attempt(run, 1, STARTED, (EventKind.STOPPED, {"resumable": True}))
    assert ledger.write_tombstone(run, JOB, "because")
    assert (state(run).state, state(run).message, state(run).next_attempt) == (State.CANCELLED, "because", 3)
    assert claim(run.job(JOB), 2) is None
    assert not ledger.write_tombstone(run, JOB, "again"), "once is enough"


def test_a_job_that_is_done_gets_no_tombstone(run: RunPaths) -> None:
    attempt(run, 1, STARTED)
    run.job(JOB).result.write_text("{}")
    assert not ledger.write_tombstone(run, JOB, "because")
    assert state(run).state is State.SUCCEEDED


def test_details_tell_how_long_a_job_took(run: RunPaths) -> None:
    attempt(run, 1, STARTED, (EventKind.SUCCEEDED, {}))
    run.job(JOB).result.write_text("{}")
    assert state(run).seconds is None
    detailed = state(run, details=True)
    assert detailed.attempt == 1
    assert detailed.seconds is not None


def test_a_fold_of_many_jobs_lists_each_folder_once(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished job costs one stat, an absent one nothing: its shard was listed once for all."""
    jobs = [f"{n % 7:02x}" + f"{n:062x}" for n in range(700)]
    for job in jobs[::2]:
        run.job(job).folder.mkdir(parents=True)
        run.job(job).result.write_text("{}")
    calls = {"listdir": 0, "open": 0}
    listdir = os.listdir

    def counted(path: str | Path = ".") -> list[str]:
        calls["listdir"] += 1
        return listdir(path)

    def opened(*_: object, **__: object) -> None:
        calls["open"] += 1

    monkeypatch.setattr(os, "listdir", counted)
    monkeypatch.setattr(ledger, "read_events", opened)
    found = ledger.states(run, jobs)
    assert sum(one.state is State.SUCCEEDED for one in found.values()) == 350
    assert calls == {"listdir": 7 + 1, "open": 0}
