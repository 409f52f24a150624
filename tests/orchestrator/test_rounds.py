"""What a round puts away, with answers of a scheduler that are older than what it decides on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import intents
from orchestrator.backends.slurm.backend import Slurm
from orchestrator.decide import Keep, Request, Why, decide
from orchestrator.ledger import JobStatus, states
from orchestrator.model import ClusterConfig
from orchestrator.rounds import Doubt, _doubt, _tidy
from orchestrator.sightings import NOT_FOUND, Sighting
from tests.orchestrator.standin import job, plan

JOBS = {"a" * 64: 1, "b" * 64: 1}


def submitted(run: RunPaths, native: str) -> intents.Intent:
    intent = intents.new_intent(backend="slurm", sweep="s", jobs=JOBS, detaches=True, elements=tuple(((name,),) for name in JOBS))
    intents.record(run, replace(intent, native={"id": native, "array": True}))
    return intent


@pytest.mark.parametrize(
    ("said", "is_left"),
    [("7", False), ("6", True)],
)
def test_a_submission_is_put_away_when_the_scheduler_has_ended_it_and_not_when_it_has_ended_the_one_before(
    tmp_path: Path, said: str, is_left: bool
) -> None:
    """Another client may have submitted the jobs again between the question and the decision."""
    run = RunPaths(tmp_path)
    submitted(run, "7")
    polled = {name: Sighting(state=State.FAILED, word="FAILED", native=f"{said}_{index}") for index, name in enumerate(JOBS)}
    _tidy(run, polled)
    assert bool(intents.open_intents(run)) is is_left
    assert {status.state for status in states(run, JOBS, polled=polled).values()} == {State.UNKNOWN if is_left else State.NEW}


def test_what_waits_for_a_job_without_a_place_in_the_queue_is_left_for_later() -> None:
    """The scheduler could not be told to wait: the job would start, find no input, and be refused."""
    parent = job("parent")
    child = job("child", (parent,))
    over = plan(parent, child, job("grandchild", (child,)), job("stranger"))
    known = {spec.job_id: JobStatus(job_id=spec.job_id, state=State.NEW) for spec in over.jobs}
    known[parent.job_id] = JobStatus(job_id=parent.job_id, state=State.SUBMITTED)
    found = decide(over, known, Request(unplaced=frozenset({parent.job_id})))
    left = [action.why for action in found if isinstance(action, Keep)]
    assert left == [Why.IN_FLIGHT, Why.COMING, Why.COMING]
    assert not [action for action in decide(over, known) if isinstance(action, Keep) and action.why is Why.COMING]


@pytest.mark.parametrize(
    ("word", "doubt"),
    [
        (NOT_FOUND, Doubt.MISSING),
        # A word that is in no manual means the same at the next look.
        ("METEOR", None),
    ],
)
def test_what_a_scheduler_does_not_know_for_the_first_time_is_asked_for_again(tmp_path: Path, word: str, doubt: Doubt | None) -> None:
    over = plan(job("left"), job("new"))
    left = over.jobs[0].job_id
    backend = Slurm(ClusterConfig(name="here", backend="slurm", run_root=tmp_path, made_root=tmp_path))
    known = {spec.job_id: JobStatus(job_id=spec.job_id, state=State.NEW) for spec in over.jobs}
    known[left] = JobStatus(job_id=left, state=State.UNKNOWN, sighting=Sighting(state=State.UNKNOWN, word=word))
    assert _doubt(over, RunPaths(tmp_path), backend, decide(over, known), known) is doubt
    # Believed by now, or nobody's question.
    known[left] = JobStatus(job_id=left, state=State.NEW, sighting=Sighting(state=State.FAILED, word=word))
    assert _doubt(over, RunPaths(tmp_path), backend, decide(over, known), known) is None


def test_a_submission_that_nobody_has_looked_up_yet_is_looked_at_again(tmp_path: Path) -> None:
    """Between looking it up and deciding it may have grown too old to be in flight, and a busy scheduler looks nothing up."""
    over, run = plan(job("one")), RunPaths(tmp_path)
    wanted = over.jobs[0].job_id
    backend = Slurm(ClusterConfig(name="here", backend="slurm", run_root=tmp_path, made_root=tmp_path))
    dead = {"host": "elsewhere", "pid": 1, "started": 1.0}
    intent = replace(intents.new_intent(backend="slurm", sweep="s", jobs={wanted: 1}, detaches=True, elements=(((wanted,),),)), owner=dead)
    intents.record(run, intent)
    for file in run.submissions.glob(f"{intent.sid}.*"):
        past = file.stat().st_mtime - intents.STALE_AFTER - 5
        os.utime(file, (past, past))
    (held,) = intents.open_intents(run)
    assert not held.live
    known = states(run, [wanted])
    assert known[wanted].state is State.UNKNOWN
    assert _doubt(over, run, backend, decide(over, known), known) is Doubt.HANDING
    intents.give_up(run, [intent.sid])
    known = states(run, [wanted])
    assert _doubt(over, run, backend, decide(over, known), known) is None
