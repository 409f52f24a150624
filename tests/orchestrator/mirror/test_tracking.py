"""The MLflow mirror: equal to the files, whenever and however often it is made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from jobs.events import append_event
from jobs.paths import RunPaths, write_atomically
from jobs.spec import EventKind, State, pretty_json, spec_to_json
from jobs.stages import Stopped
from orchestrator import tracking
from orchestrator.ledger import states
from orchestrator.mirror import rows
from orchestrator.mirror.trials import SILENT_AFTER
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, export, rebuilt, runs_of
from tests.orchestrator.mirror.played import Player, trains, write_line
from trainers.errors import Diverged


def test_a_second_sync_changes_nothing(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(plan.jobs)
    first = tracking.sync(plan, run, code="one")
    before = export(run, "play")
    second = tracking.sync(plan, run, code="two")
    assert (first.created, first.metrics) == (11, sum(len(points) for one in before.values() for points in one["metrics"].values()))
    assert second == replace(first, created=0, metrics=0)
    assert export(run, "play") == before
    assert {one.data.tags["git_sha"] for one in runs_of(run, "play").values()} == {"one"}


def test_syncing_after_every_job_ends_where_one_sync_does(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    player = Player(run=run)
    sent = 0
    for job in plan.jobs:
        player.play([job])
        synced = tracking.sync(plan, run)
        assert (synced.replaced, synced.removed) == (0, 0)
        sent += synced.metrics
    found = export(run, "play")
    assert found == rebuilt(run, plan, tmp_path / "again", template)
    assert sent == sum(len(points) for one in found.values() for points in one["metrics"].values())


def test_a_requeued_job_goes_on_in_its_own_run(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    job = trains(plan, "pretrain")[0]
    player = Player(run=run)
    player.troubles.raises[job.job_id] = Stopped()
    player.troubles.after[job.job_id] = 2
    player.play([job])
    tracking.sync(plan, run)
    (stopped,) = runs_of(run, "play").values()
    assert (stopped.info.status, stopped.data.tags["attempt"]) == ("KILLED", "1")
    assert "n_images" not in stopped.data.params

    player.troubles.raises.clear()
    player.play([job])
    # The second attempt starts from its beginning and says everything again; a last line is torn by a kill.
    with run.job(job.job_id).attempt(2).metrics.open("a") as file:
        file.write('{"epoch": 9, "step": 90, "metr')
    synced = tracking.sync(plan, run)
    (done,) = runs_of(run, "play").values()
    assert (synced.created, synced.updated, synced.replaced) == (0, 1, 0)
    assert done.info.run_id == stopped.info.run_id
    assert (done.info.status, done.data.tags["attempt"]) == ("FINISHED", "2")
    history = client_of(run).get_metric_history(done.info.run_id, "train/loss")
    assert [point.step for point in history] == [5, 10, 15, 20, 25, 30]
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_of_two_values_for_a_step_the_first_stands(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    player = Player(run=run)
    player.troubles.raises[job.job_id] = Stopped()
    player.troubles.after[job.job_id] = 1
    player.play([job])
    tracking.sync(plan, run)
    write_line(run, job, 2, {"train/loss": 123.0}, step=10)
    write_line(run, job, 2, {"train/loss": 7.0}, step=11)
    (run.job(job.job_id).attempt(2).claim).write_text(run.job(job.job_id).attempt(1).claim.read_text())
    assert tracking.sync(plan, run).metrics == 1
    (one,) = runs_of(run, "play").values()
    history = client_of(run).get_metric_history(one.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(5, 1.0), (10, 0.9), (11, 7.0)]


@pytest.mark.parametrize("known", [True, False], ids=["as rows", "as requests, its tables being others"])
def test_a_sync_that_is_cut_short_is_made_good(
    plan: Plan, run: RunPaths, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    Player(run=run).play(plan.jobs)
    monkeypatch.setattr(rows, "are_known", lambda database: known)
    own: list[tuple[Any, str]] = [(rows, "write")] if known else [(MlflowClient, "log_batch"), (MlflowClient, "set_terminated")]
    for holder, name in [(MlflowClient, "create_run"), (tracking, "_write_files"), *own]:
        for calls in (0, 1):
            with monkeypatch.context() as patched:
                patched.setattr(holder, name, cut_after(getattr(holder, name), calls))
                with pytest.raises(Unplugged):
                    tracking.sync(plan, run)
    tracking.sync(plan, run)
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


class Unplugged(BaseException):
    """The machine went away."""


def cut_after(real: Any, calls: int) -> Any:
    """Do a call in full, and then fail; the first `calls` go through."""
    left = [calls]

    def wrapped(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        left[0] -= 1
        if left[0] < 0:
            raise Unplugged
        return found

    return wrapped


def test_a_killed_process_leaves_no_running_run(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    write_atomically(run.job(job.job_id).job, pretty_json(spec_to_json(job)).encode())
    code = (
        "import sys, time; from pathlib import Path; from jobs.main import claim; from jobs.paths import JobPaths\n"
        "from jobs.events import append_event, process_identity; from jobs.spec import EventKind\n"
        "attempt = claim(JobPaths(Path(sys.argv[1])), 1); append_event(attempt.events, EventKind.STARTED, **process_identity())\n"
        "print('started', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(run.job(job.job_id).folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(tracking.__file__).parents[1])
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        tracking.sync(plan, run)
        (alive,) = runs_of(run, "play").values()
        assert alive.info.status == "RUNNING"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    tracking.sync(plan, run)
    (dead,) = runs_of(run, "play").values()
    assert (dead.info.run_id, dead.info.status, dead.data.tags["failure"]) == (alive.info.run_id, "KILLED", "LOST")
    assert tracking.sync(plan, run).updated == 0


def test_a_job_on_a_silent_host_is_dead_after_a_while(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    attempt = run.job(job.job_id).attempt(1)
    append_event(attempt.events, EventKind.STARTED, host="elsewhere", pid=1)
    attempt.claim.write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot": "b", "started": 1}))
    write_line(run, job, 1, {"train/loss": 1.0})
    for files, status in (((), "RUNNING"), ((attempt.events, attempt.claim), "RUNNING"), ((attempt.metrics,), "KILLED")):
        for file in files:
            long_ago = time.time() - SILENT_AFTER - 60
            os.utime(file, (long_ago, long_ago))
        tracking.sync(plan, run)
        (one,) = runs_of(run, "play").values()
        assert one.info.status == status


def test_a_failure_is_told_and_forgotten_once_the_job_succeeds(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    job = trains(plan, "pretrain")[0]
    player = Player(run=run)
    player.troubles.raises[job.job_id] = Diverged("step 3: the loss is nan")
    player.play([job])
    tracking.sync(plan, run)
    (failed,) = runs_of(run, "play").values()
    assert failed.info.status == "FAILED"
    assert (failed.data.tags["failure"], failed.data.tags["failure_message"]) == ("DIVERGED", "step 3: the loss is nan")
    player.troubles.raises.clear()
    player.play([job])
    tracking.sync(plan, run)
    (done,) = runs_of(run, "play").values()
    assert (done.info.run_id, done.info.status) == (failed.info.run_id, "FINISHED")
    assert "failure" not in done.data.tags
    assert client_of(run).list_artifacts(done.info.run_id, "attempts/1")[0].path == "attempts/1/traceback.txt"
    assert export(run, "play") == rebuilt(run, plan, tmp_path / "again", template)


def test_what_never_started_has_no_run(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play([job for job in plan.jobs if job.phase == "pretrain"])
    synced = tracking.sync(plan, run)
    assert (synced.runs, sorted(runs_of(run, "play"))) == (2, ["pretrain-lr=0.0001", "pretrain-lr=0.001"])


def test_a_caller_may_bring_what_the_scheduler_says(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    attempt = run.job(job.job_id).attempt(1)
    attempt.folder.mkdir(parents=True)
    attempt.claim.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    known = states(run, [one.job_id for one in plan.jobs])
    for state, status in (
        (State.RUNNING, "RUNNING"),
        (State.SUBMITTED, "SCHEDULED"),
        (State.CANCELLED, "KILLED"),
        (State.RUNNING, "RUNNING"),
    ):
        tracking.sync(plan, run, statuses={**known, job.job_id: replace(known[job.job_id], state=state)})
        (one,) = runs_of(run, "play").values()
        assert one.info.status == status
