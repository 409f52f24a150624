"""The order of work: what may start, what follows from an outcome, against a ledger that is a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spec import FailureKind, JobSpec, Json, Resources, Stage, State
from orchestrator.backends.base import DEATHS_ALLOWED, Notice, Queued
from orchestrator.execution import board as boards
from orchestrator.execution.board import Board
from orchestrator.ledger import JobStatus
from tests.orchestrator.standin import ASHA, chain, job, search


class World:
    """A ledger in memory, with a board over some jobs."""

    def __init__(self, *jobs: JobSpec, **outside: JobStatus) -> None:
        self.known: dict[str, JobStatus] = {spec.job_id: JobStatus(job_id=spec.job_id, state=State.NEW) for spec in jobs}
        self.known |= {status.job_id: status for status in outside.values()}
        self.notices: list[Notice] = []
        self.cancelled: frozenset[str] = frozenset()
        self.names = {spec.job_id: spec.trial for spec in jobs}
        queued = [Queued(spec=spec, attempt=1, resources=spec.resources) for spec in jobs]
        self.board = Board(queued, self._look, self.notices.append, cancelled=lambda: self.cancelled, bury=self._bury)

    def _look(self, jobs: Iterable[str]) -> Mapping[str, JobStatus]:
        return {one: self.known[one] for one in jobs}

    def _bury(self, one: str) -> bool:
        self.known[one] = JobStatus(job_id=one, state=State.CANCELLED)
        return True

    def take(self, prefer: tuple[int, int] | None = None) -> str | None:
        taken = self.board.take(prefer)
        return None if taken is None else self.names[taken.spec.job_id]

    def end(
        self, spec: JobSpec, state: State = State.SUCCEEDED, failure: FailureKind | None = None, attempt: int = 1, **more: Json
    ) -> None:
        self.known[spec.job_id] = JobStatus(job_id=spec.job_id, state=state, failure=failure, attempt=attempt, **more)
        self.board.give_back(spec.job_id)

    def drain(self) -> list[str]:
        return list(iter(self.take, None))


def live(spec: JobSpec) -> JobStatus:
    return JobStatus(job_id=spec.job_id, state=State.RUNNING)


def test_a_job_is_ready_when_its_inputs_are_done() -> None:
    train, pick, evaluate = chain("a")
    other = job("b")
    world = World(train, pick, evaluate, other)
    assert world.drain() == ["a/train", "b"]
    assert not world.board.finished
    world.end(train)
    assert world.drain() == ["a/pick"]
    world.end(pick)
    assert world.drain() == ["a/evaluate"]
    world.end(evaluate)
    assert not world.board.finished
    world.end(other)
    assert world.board.finished


def test_a_job_that_its_search_found_losing_is_waited_for_until_it_has_saved_and_the_pick_goes_on_without_it() -> None:
    first, second, pick, _ = search("s", [[0.1], [0.2]])
    world = World(first, second, pick)
    world.drain()
    world.end(second)
    world.end(first, State.RUNNING)
    assert world.drain() == []
    assert not world.board.finished
    world.known[first.job_id] = JobStatus(job_id=first.job_id, state=State.STOPPED, attempt=1, stopped_by=ASHA)
    world.board._looked = float("-inf")
    assert world.drain() == ["s/pick"]
    assert [notice.state for notice in world.notices] == [State.SUCCEEDED, State.STOPPED]


def test_a_pick_waits_in_vain_for_what_another_search_stopped() -> None:
    first, pick, _ = search("s", [[0.1]])
    world = World(first, pick)
    world.drain()
    world.end(first, State.STOPPED, stopped_by={**ASHA, "grace": 7})
    assert world.drain() == []
    assert world.board.finished


@pytest.mark.parametrize(
    ("failure", "follows"), [(FailureKind.ERROR, []), (FailureKind.DIVERGED, ["a/pick"]), (FailureKind.COLLAPSED, ["a/pick"])]
)
def test_a_pick_goes_on_without_a_candidate_that_lost_and_without_no_other(failure: FailureKind, follows: list[str]) -> None:
    train, pick, evaluate = chain("a")
    world = World(train, pick, evaluate)
    world.drain()
    world.end(train, State.FAILED, failure)
    assert world.drain() == follows
    assert world.board.finished is (not follows)


def test_what_died_is_ready_again_as_its_next_attempt_until_it_died_too_often() -> None:
    train, pick, evaluate = chain("a")
    world = World(train, pick, evaluate)
    for number in range(1, DEATHS_ALLOWED + 1):
        taken = world.board.take()
        assert taken is not None
        assert taken.attempt == number
        world.end(train, State.INTERRUPTED, FailureKind.LOST, attempt=number)
    assert world.board.finished
    assert world.board.gave_up == {train.job_id}
    assert [notice.kind for notice in world.notices] == ["again"] * (DEATHS_ALLOWED - 1) + ["ended"]


def test_a_job_that_never_started_is_tried_again_under_the_same_number() -> None:
    train = job("a")
    world = World(train)
    for _ in range(DEATHS_ALLOWED):
        taken = world.board.take()
        assert taken is not None
        assert taken.attempt == 1
        world.end(train, State.NEW, attempt=0)
    assert world.board.finished


def test_a_job_that_somebody_else_runs_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "LOOK_EVERY", 0.0)
    train, pick, evaluate = chain("a")
    world = World(train, pick, evaluate)
    world.drain()
    world.end(train, State.RUNNING)
    assert world.drain() == []
    assert not world.board.finished
    world.known[train.job_id] = JobStatus(job_id=train.job_id, state=State.SUCCEEDED)
    assert world.drain() == ["a/pick"]


def test_an_input_that_another_client_makes_is_waited_for_and_dropped_when_it_will_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "LOOK_EVERY", 0.0)
    theirs, pick, evaluate = chain("a")
    world = World(pick, evaluate, theirs=live(theirs))
    assert world.drain() == []
    assert not world.board.finished
    world.known[theirs.job_id] = JobStatus(job_id=theirs.job_id, state=State.INTERRUPTED)
    assert world.drain() == []
    assert world.board.finished


def test_inputs_that_are_done_or_lost_before_hold_nothing_up() -> None:
    done, lost = job("done"), job("lost")
    pick = job("pick", (done, lost), stage=Stage.PICK)
    world = World(
        pick,
        done=JobStatus(job_id=done.job_id, state=State.SUCCEEDED),
        lost=JobStatus(job_id=lost.job_id, state=State.FAILED, failure=FailureKind.DIVERGED),
    )
    assert world.drain() == ["pick"]


def test_a_worker_that_is_free_gets_jobs_of_its_size_first_and_picks_fit_anywhere() -> None:
    small, big = job("small"), job("big", resources=Resources(cpus=2))
    first = job("first")
    pick = job("pick", (first,), stage=Stage.PICK)
    world = World(first, small, big, pick)
    assert world.take() == "first"
    world.end(first)
    assert world.take((2, 0)) == "big"
    assert world.take((2, 0)) == "pick"
    assert world.take((2, 0)) == "small"


def test_what_is_cancelled_is_buried_before_it_starts_with_all_that_follows() -> None:
    train, pick, evaluate = chain("a")
    other = job("b")
    world = World(train, pick, evaluate, other)
    world.cancelled = frozenset({train.job_id})
    assert world.drain() == ["b"]
    assert world.known[train.job_id].state is State.CANCELLED
    world.end(other)
    assert world.board.finished


def test_what_is_cancelled_while_it_runs_is_buried_when_it_has_saved() -> None:
    train = job("a")
    world = World(train)
    world.drain()
    world.cancelled = frozenset({train.job_id})
    world.end(train, State.INTERRUPTED, FailureKind.PREEMPTED)
    assert world.known[train.job_id].state is State.CANCELLED
    assert world.board.finished
    assert world.notices[-1].state is State.CANCELLED


def test_when_a_person_stops_nothing_more_starts_and_nothing_is_tried_again() -> None:
    train, pick, evaluate = chain("a")
    world = World(train, pick, evaluate, job("b"))
    world.take()
    world.board.abandon()
    assert not world.board.finished
    world.end(train, State.INTERRUPTED, FailureKind.PREEMPTED)
    assert world.drain() == []
    assert world.board.finished
    assert not world.board.gave_up


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_job_is_handed_out_once_after_its_inputs_or_not_at_all(data: st.DataObject) -> None:
    jobs: list[JobSpec] = []
    for n in range(data.draw(st.integers(1, 10))):
        parents = data.draw(st.lists(st.sampled_from(jobs), max_size=3, unique_by=lambda spec: spec.job_id)) if jobs else []
        resources = Resources(cpus=data.draw(st.integers(1, 2)))
        jobs.append(job(f"j{n}", tuple(parents), stage=data.draw(st.sampled_from(Stage)), resources=resources))
    world = World(*jobs)
    specs = {spec.trial: spec for spec in jobs}
    running: list[JobSpec] = []
    handed: list[str] = []
    while not world.board.finished:
        taken = world.take(data.draw(st.sampled_from([None, (1, 0), (2, 0)])))
        if taken is not None:
            handed.append(taken)
            running.append(specs[taken])
            for item in specs[taken].inputs:
                parent = world.known[item.job]
                assert parent.state is State.SUCCEEDED or (specs[taken].stage is Stage.PICK and parent.failure is FailureKind.DIVERGED)
        if running and (taken is None or data.draw(st.booleans())):
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            good = data.draw(st.booleans())
            failure = None if good else data.draw(st.sampled_from([FailureKind.ERROR, FailureKind.DIVERGED]))
            world.end(ended, State.SUCCEEDED if good else State.FAILED, failure)
    assert len(handed) == len(set(handed))
    assert not running
    for spec in jobs:
        can = all(world.known[i.job].state is State.SUCCEEDED or _lost(world.known[i.job], spec) for i in spec.inputs)
        assert (spec.trial in handed) is can


def _lost(parent: JobStatus, child: JobSpec) -> bool:
    return child.stage is Stage.PICK and parent.failure is FailureKind.DIVERGED
