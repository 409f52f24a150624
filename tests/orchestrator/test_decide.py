"""What is done with each job: a table of cases, and properties over random plans and states."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.spec import FailureKind, JobSpec, Json, Resources, Stage, State
from orchestrator.decide import Action, Cancel, Keep, Request, Submit, Why, decide, has_lost
from orchestrator.ledger import JobStatus
from orchestrator.model import Plan
from tests.orchestrator.standin import ASHA, chain, job, plan, search

TRAIN, PICK, EVALUATE = chain("a")
PLAN = plan(TRAIN, PICK, EVALUATE)
F = FailureKind
RESUME = Request(resume=True)


def status(spec: JobSpec, state: State = State.NEW, failure: FailureKind | None = None, attempt: int = 0) -> JobStatus:
    return JobStatus(job_id=spec.job_id, state=state, failure=failure, attempt=attempt, submission="s" if state is State.RUNNING else None)


def actions(first: JobStatus, request: Request | None = None, *, over: Plan = PLAN) -> list[str]:
    """Decide over a plan whose first job stands somewhere and whose others are new; name each action."""
    states = {spec.job_id: status(spec) for spec in over.jobs} | {first.job_id: first}
    return [_name(action) for action in decide(over, states, request)]


def _name(action: Action) -> str:
    match action:
        case Submit(attempt=attempt):
            return f"submit {attempt}"
        case Keep(why=why):
            return why.name
        case Cancel():
            return "cancel"


GO = ["submit 1", "submit 1"]
HELD = ["BLOCKED", "BLOCKED"]


@pytest.mark.parametrize(
    ("state", "failure", "request_", "expected"),
    [
        (State.NEW, None, None, ["submit 1", *GO]),
        (State.SUCCEEDED, None, None, ["DONE", *GO]),
        (State.SUBMITTED, None, None, ["IN_FLIGHT", *GO]),
        (State.RUNNING, None, None, ["IN_FLIGHT", *GO]),
        (State.INTERRUPTED, F.LOST, None, ["submit 3", *GO]),
        (State.INTERRUPTED, F.PREEMPTED, None, ["submit 3", *GO]),
        (State.INTERRUPTED, F.LOST, Request(gave_up=frozenset({TRAIN.job_id})), ["GAVE_UP", *HELD]),
        (State.FAILED, F.ERROR, None, ["FAILED", *HELD]),
        (State.FAILED, F.ERROR, RESUME, ["submit 3", *GO]),
        (State.FAILED, None, None, ["FAILED", *HELD]),
        (State.FAILED, F.TIMEOUT, None, ["FAILED", *HELD]),
        (State.FAILED, F.TIMEOUT, RESUME, ["submit 3", *GO]),
        (State.FAILED, F.ERROR, Request(resume=True, failures=frozenset({F.TIMEOUT})), ["FAILED", *HELD]),
        (State.FAILED, F.TIMEOUT, Request(resume=True, failures=frozenset({F.TIMEOUT})), ["submit 3", *GO]),
        (State.FAILED, F.ERROR, Request(resume=True, gave_up=frozenset({TRAIN.job_id})), ["FAILED", *HELD]),
        # A candidate that lost: the pick goes on without it, and nobody tries it again unless it is named.
        (State.FAILED, F.DIVERGED, None, ["LOST_THE_PICK", *GO]),
        (State.FAILED, F.COLLAPSED, RESUME, ["LOST_THE_PICK", *GO]),
        (State.FAILED, F.DIVERGED, Request(resume=True, failures=frozenset({F.DIVERGED})), ["submit 3", *GO]),
        (State.STOPPED, None, RESUME, ["STOPPED", *HELD]),
        (State.CANCELLED, None, None, ["CANCELLED", *HELD]),
        (State.CANCELLED, None, RESUME, ["submit 3", *GO]),
        (State.UNKNOWN, None, RESUME, ["UNKNOWN", *HELD]),
        (State.NEW, None, Request(only=frozenset()), ["NOT_ASKED", "NOT_ASKED", "NOT_ASKED"]),
        (State.NEW, None, Request(only=frozenset({PICK.job_id})), ["NOT_ASKED", "BLOCKED", "NOT_ASKED"]),
        (State.RUNNING, None, Request(cancel=frozenset({TRAIN.job_id})), ["cancel", *HELD]),
        (State.SUCCEEDED, None, Request(cancel=frozenset({TRAIN.job_id})), ["DONE", *GO]),
    ],
)
def test_table(state: State, failure: FailureKind | None, request_: Request | None, expected: list[str]) -> None:
    assert actions(status(TRAIN, state, failure, attempt=0 if state is State.NEW else 2), request_) == expected


@pytest.mark.parametrize(
    ("rule", "stopped_by", "request_", "expected"),
    [
        # What its own search stopped is over, also for a person who resumes; the pick chooses among the others.
        (ASHA, ASHA, None, ["STOPPED", *GO]),
        (ASHA, ASHA, RESUME, ["STOPPED", *GO]),
        # Another rule, or none any more, would not have stopped it there.
        (ASHA, {**ASHA, "grace": 5}, None, ["submit 3", *GO]),
        (None, ASHA, None, ["submit 3", *GO]),
        (None, ASHA, Request(only=frozenset()), ["NOT_ASKED", "NOT_ASKED", "NOT_ASKED"]),
        # Nobody knows what stopped it.
        (ASHA, None, None, ["STOPPED", *HELD]),
    ],
)
def test_what_a_search_stopped(
    rule: dict[str, Json] | None, stopped_by: dict[str, Json] | None, request_: Request | None, expected: list[str]
) -> None:
    train, other, pick, evaluate = search("s", [[0.1], [0.2]], rule=rule)
    states = {spec.job_id: status(spec) for spec in (pick, evaluate)} | {other.job_id: status(other, State.SUCCEEDED)}
    states[train.job_id] = replace(status(train, State.STOPPED, attempt=2), stopped_by=stopped_by)
    decided = decide(plan(train, other, pick, evaluate), states, request_)
    assert [_name(action) for action in (decided[0], *decided[2:])] == expected


def test_only_a_pick_goes_on_without_a_candidate_that_lost() -> None:
    child = job("child", (TRAIN,))
    assert actions(status(TRAIN, State.FAILED, F.DIVERGED), over=plan(TRAIN, child)) == ["LOST_THE_PICK", "BLOCKED"]


def test_what_is_out_of_reach_is_kept_with_all_that_follows_from_it() -> None:
    first = job("far", resolved=False)
    after = job("after", (first,), resolved=False)
    assert actions(status(first), over=plan(first, after)) == ["UNRESOLVED", "UNRESOLVED"]


def test_a_limit_counts_what_is_in_flight_and_keeps_the_order_of_the_plan() -> None:
    jobs = [job(f"j{n}") for n in range(4)]
    states = {spec.job_id: status(spec) for spec in jobs} | {jobs[0].job_id: status(jobs[0], State.RUNNING)}
    decided = decide(plan(*jobs), states, Request(max_queued=2))
    assert [_name(action) for action in decided] == ["IN_FLIGHT", "submit 1", "QUEUE_FULL", "QUEUE_FULL"]


def test_what_follows_a_job_beyond_the_limit_is_beyond_it_too_and_a_failure_still_blocks() -> None:
    first, second, bad = job("first"), job("second"), job("bad")
    over = plan(first, second, job("child", (second,)), bad, job("both", (second, bad)))
    states = {spec.job_id: status(spec) for spec in over.jobs} | {bad.job_id: status(bad, State.FAILED, F.ERROR)}
    decided = decide(over, states, Request(max_queued=1))
    assert [_name(action) for action in decided] == ["submit 1", "QUEUE_FULL", "QUEUE_FULL", "FAILED", "BLOCKED"]


def test_a_resume_asks_for_more_of_what_ran_out() -> None:
    spec = job("big", resources=Resources(memory_mb=1000))
    (action,) = decide(plan(spec), {spec.job_id: status(spec, State.FAILED, F.HOST_OOM, attempt=1)}, RESUME)
    assert isinstance(action, Submit)
    assert (action.attempt, action.resources.memory_mb, action.after) == (2, 1500, F.HOST_OOM)


def test_jobs_that_the_plan_no_longer_has_are_cancelled_when_they_live() -> None:
    gone, dead = job("gone"), job("dead")
    states = {
        TRAIN.job_id: status(TRAIN, State.SUCCEEDED),
        gone.job_id: status(gone, State.RUNNING),
        dead.job_id: status(dead, State.FAILED, F.ERROR),
    }
    decided = decide(plan(TRAIN), states, Request(cancel=frozenset({gone.job_id, dead.job_id})))
    assert decided == (Keep(job_id=TRAIN.job_id, why=Why.DONE), Cancel(job_id=gone.job_id, submission="s"))


def test_an_input_that_no_plan_holds_is_a_fault() -> None:
    with pytest.raises(KeyError, match="not in the plan"):
        decide(plan(PICK), {PICK.job_id: status(PICK)})


@st.composite
def situations(draw: st.DrawFn) -> tuple[Plan, dict[str, JobStatus], Request]:
    jobs: list[JobSpec] = []
    for n in range(draw(st.integers(1, 9))):
        parents = draw(st.lists(st.sampled_from(jobs), max_size=3, unique_by=lambda spec: spec.job_id)) if jobs else []
        jobs.append(job(f"j{n}", tuple(parents), stage=draw(st.sampled_from(Stage)), resolved=draw(st.booleans())))
    states = {
        spec.job_id: status(spec, draw(st.sampled_from(State)), draw(st.none() | st.sampled_from(FailureKind)), draw(st.integers(0, 3)))
        for spec in jobs
    }
    some = st.frozensets(st.sampled_from([spec.job_id for spec in jobs]))
    request = Request(
        resume=draw(st.booleans()),
        failures=draw(st.frozensets(st.sampled_from(FailureKind), max_size=2)),
        only=draw(st.none() | some),
        cancel=draw(some),
        gave_up=draw(some),
        max_queued=draw(st.none() | st.integers(0, 5)),
    )
    return plan(*jobs), states, request


@settings(max_examples=300, deadline=None)
@given(situations())
def test_properties(situation: tuple[Plan, dict[str, JobStatus], Request]) -> None:
    over, states, request = situation
    decided = decide(over, states, request)
    assert [action.job_id for action in decided] == [spec.job_id for spec in over.jobs], "one action a job, in order"
    assert decided == decide(over, states, request), "the same again"
    going = {action.job_id for action in decided if isinstance(action, Submit)}
    for spec, action in zip(over.jobs, decided, strict=True):
        here = states[spec.job_id]
        if isinstance(action, Cancel):
            assert here.is_live
        if not isinstance(action, Submit):
            continue
        assert action.attempt == here.attempt + 1
        assert spec.resolved
        assert here.state not in (State.SUCCEEDED, State.RUNNING, State.SUBMITTED, State.UNKNOWN, State.STOPPED)
        assert request.resume or here.state in (State.NEW, State.INTERRUPTED) or here.failure is F.DISK_FULL
        for item in spec.inputs:
            parent = states[item.job]
            there = item.job in going or parent.state is State.SUCCEEDED or (parent.is_live and item.job not in request.cancel)
            assert there or (spec.stage is Stage.PICK and has_lost(parent))
    if request.max_queued is not None:
        assert len(going) <= request.max_queued
