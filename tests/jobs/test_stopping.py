"""The word to stop: who said it first stands, and a job that lost is not one that can be gone on with."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import main, stopping
from jobs.events import read_events
from jobs.main import claim, missing_inputs
from jobs.paths import JobPaths, RunPaths, write_atomically
from jobs.signals import EXIT_STOPPED
from jobs.spec import Input, JobSpec, Json, Stage, pretty_json, spec_to_json
from jobs.stages import Node, Stopped
from jobs.stopping import Word, ask_to_stop, lost_search, tell_lost

RULE: dict[str, Json] = {"scheduler": "asha", "metric": "val/loss", "mode": "min", "grace": 1}
OTHER = {**RULE, "grace": 2}


def spec(name: str, stage: Stage = Stage.TRAIN, **more: Json) -> JobSpec:
    given = {"config": {}, "inputs": (), **more}
    return JobSpec(
        job_id=name * 64, stage=stage, trainer="toy", trainer_version=1, loop_version=1, data={}, seed=0,
        sweep="toy", phase="p", trial=name, **given,
    )  # fmt: skip


def described(root: Path, one: JobSpec) -> JobPaths:
    paths = RunPaths(root).job(one.job_id)
    write_atomically(paths.job, pretty_json(spec_to_json(one)).encode())
    return paths


def run_until(root: Path, monkeypatch: pytest.MonkeyPatch, stop: Callable[[JobPaths], object], *, beside: bool = True) -> dict[str, Json]:
    """Run a job that works for ever, do something to stop it once it is claimed, and return the event that ended it."""
    at_work = threading.Event()

    def stage(node: Node) -> dict[str, Json]:
        at_work.set()
        while not node.host.should_stop():
            time.sleep(0.01)
        raise Stopped

    monkeypatch.setattr(main, "run_stage", stage)
    paths = described(root, spec("a"))
    codes: list[int] = []

    def act() -> None:
        assert at_work.wait(60)
        stop(paths)

    def work() -> None:
        codes.append(main.run(paths.job, attempt=1))

    other = threading.Thread(target=work if beside else act)
    other.start()
    (act if beside else work)()
    other.join(timeout=60)
    assert codes == [EXIT_STOPPED]
    return read_events(paths.attempt(1).events)[-1]


def test_a_job_beside_the_main_thread_hears_the_word_and_can_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = run_until(tmp_path, monkeypatch, lambda paths: ask_to_stop(paths.attempt(1)))
    assert (event["kind"], event["resumable"], "search" in event) == ("STOPPED", True, False)
    assert lost_search(RunPaths(tmp_path).job("a" * 64)) is None


def test_a_job_that_lost_says_to_which_search_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = run_until(tmp_path, monkeypatch, lambda paths: tell_lost(paths.attempt(1), RULE, "was losing"))
    assert (event["kind"], event["search"], event["message"], "resumable" in event) == ("STOPPED", RULE, "was losing", False)
    assert lost_search(RunPaths(tmp_path).job("a" * 64)) == RULE


def test_a_signal_alone_leaves_a_job_to_be_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = run_until(tmp_path, monkeypatch, lambda _: os.kill(os.getpid(), signal.SIGUSR2), beside=False)
    assert (event["kind"], event["resumable"]) == ("STOPPED", True)


def test_the_first_word_stands(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    person, search = (claim(run.job(name * 64), None) for name in "ab")
    assert person is not None
    assert search is not None
    assert [ask_to_stop(person), tell_lost(person, RULE, "late"), ask_to_stop(person)] == [True, False, False]
    assert [tell_lost(search, RULE, "first"), ask_to_stop(search)] == [True, False]
    assert stopping.ending(person) == {"resumable": True}
    assert stopping.ending(search) == {"search": RULE, "message": "first"}
    assert sorted(os.listdir(search.folder)) == ["claim", "stop"], "nothing is left aside"


def test_a_word_is_looked_for_now_and_then_and_never_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = claim(RunPaths(tmp_path).job("a" * 64), None)
    assert attempt is not None
    clock = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    word = Word(attempt)
    assert not word.is_there()
    ask_to_stop(attempt)
    assert not word.is_there(), "it has just looked"
    clock[0] += stopping.LOOK_EVERY
    assert word.is_there()
    attempt.stop.unlink()
    assert word.is_there()


def test_a_pick_goes_on_without_what_its_own_search_stopped_and_waits_for_what_another_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_until(tmp_path, monkeypatch, lambda paths: tell_lost(paths.attempt(1), RULE, "was losing"))
    inputs = (Input(role="candidate", job="a" * 64, take="result"),)
    for rule, said in ((RULE, ""), (OTHER, "has no result"), (None, "has no result")):
        pick = spec("b", Stage.PICK, config={} if rule is None else {"search": rule}, inputs=inputs)
        paths = described(tmp_path, pick)
        assert said in missing_inputs(pick, paths.job)
        assert bool(missing_inputs(pick, paths.job)) == bool(said)
    child = spec("c", Stage.TRAIN, config={"search": RULE}, inputs=inputs)
    assert missing_inputs(child, described(tmp_path, child).job)
