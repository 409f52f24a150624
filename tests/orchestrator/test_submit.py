"""From a plan to finished jobs, with real processes where it matters: nothing runs twice, nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.paths import JobPaths, RunPaths
from jobs.spec import FailureKind, Resources, State, pretty_json, spec_from_json
from orchestrator import intents
from orchestrator.backends import base
from orchestrator.backends.base import Notice
from orchestrator.decide import Request, Why
from orchestrator.errors import BackendError, IdentityError
from orchestrator.execution.attempt import run_attempt
from orchestrator.model import Plan
from orchestrator.plans import read_plan
from orchestrator.submit import cancel, preview, submit
from tests.orchestrator import client
from tests.orchestrator.client import run_here, start, wait_until
from tests.orchestrator.standin import bodies, chain, job, plan


def ran(over: Plan, root: Path) -> dict[str, list[int]]:
    """Return, by trial, the attempts whose body ran."""
    return {spec.trial: [number for number, _ in bodies(RunPaths(root).job(spec.job_id).folder)] for spec in over.jobs}


def test_a_plan_runs_once_and_submitting_it_again_runs_nothing(tmp_path: Path) -> None:
    over = plan(*chain("a"), *chain("b"))
    notices: list[Notice] = []
    summary = run_here(over, tmp_path, notify=notices.append)
    assert (summary.submitted, summary.counts, summary.exit_code) == (6, {State.SUCCEEDED: 6}, 0)
    assert [n.kind for n in notices if n.kind != "round"] == ["started", "ended"] * 6
    again = run_here(over, tmp_path)
    assert (again.submitted, again.exit_code, again.kept) == (0, 0, {})
    assert set(map(tuple, ran(over, tmp_path).values())) == {(1,)}
    assert read_plan(RunPaths(tmp_path).sweep("toy").plan) == over


def test_failures_hold_up_what_follows_and_nothing_else_and_wait_for_resume(tmp_path: Path) -> None:
    over = plan(*chain("bad", fail="ERROR"), *chain("lost", fail="DIVERGED"), *chain("good"))
    summary = run_here(over, tmp_path)
    assert summary.exit_code == 1
    assert [status.message for status in summary.failed] == ["ValueError: as told"]
    why = {over.by_id()[one].trial: reason for one, reason in summary.kept.items()}
    assert why == {"bad/train": Why.FAILED, "bad/pick": Why.BLOCKED, "bad/evaluate": Why.BLOCKED, "lost/train": Why.LOST_THE_PICK}
    assert run_here(over, tmp_path).submitted == 0
    resumed = run_here(over, tmp_path, request=Request(resume=True))
    assert resumed.submitted == 3, "the failed job with what follows it, in this command once"
    assert ran(over, tmp_path)["bad/train"] == [1, 2]
    assert ran(over, tmp_path)["lost/train"] == [1]


def test_resume_takes_what_failed_in_the_way_that_is_named_or_is_named_itself(tmp_path: Path) -> None:
    once = {"fail_on": [1]}
    full, wrong = job("full", config={"fail": "CUDA_OOM", **once}), job("wrong", config={"fail": "ERROR", **once})
    over = plan(full, wrong, job("good"))
    first = run_here(over, tmp_path)
    assert {status.failure for status in first.failed} == {FailureKind.CUDA_OOM, FailureKind.ERROR}
    assert run_here(over, tmp_path, request=Request(resume=True, failures=frozenset({FailureKind.CUDA_OOM}))).submitted == 1
    assert ran(over, tmp_path) == {"full": [1, 2], "wrong": [1], "good": [1]}
    done = run_here(over, tmp_path, request=Request(resume=True, only=frozenset({wrong.job_id})))
    assert (done.submitted, done.counts) == (1, {State.SUCCEEDED: 3})
    assert ran(over, tmp_path) == {"full": [1, 2], "wrong": [1, 2], "good": [1]}


def test_a_job_of_two_sweeps_runs_once(tmp_path: Path) -> None:
    train, pick, evaluate = chain("shared")
    run_here(plan(train, sweep="first"), tmp_path)
    summary = run_here(plan(train, pick, evaluate, sweep="second"), tmp_path)
    assert summary.submitted == 2
    assert ran(plan(train), tmp_path) == {"shared/train": [1]}


def test_a_preview_records_nothing_and_says_what_submit_will_do(tmp_path: Path) -> None:
    over = plan(*chain("a"))
    config = client.cluster(tmp_path / "root", "inline")
    seen = preview(over, RunPaths(config.run_root), base.load(config))
    assert seen.submission.text.startswith("# toy: 3 jobs")
    assert not config.run_root.exists()


def test_what_can_never_run_here_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    over = plan(job("small"), job("big", resources=Resources(gpus=1)))
    with pytest.raises(BackendError, match="asks for gpus: 1"):
        run_here(over, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_another_thing_under_the_same_id_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    spec = job("a", config={"fail": "ERROR"})
    run_here(plan(spec), tmp_path)
    path = RunPaths(tmp_path).job(spec.job_id).job
    content = json.loads(path.read_text())
    path.write_text(pretty_json({**content, "config": {**content["config"], "lr": 1.0}}))
    with pytest.raises(
        IdentityError, match=r"job\.json: .*config\.lr: 1\.0, now left out\. Either raise VERSION of the trainer 'toy'.* or pin"
    ):
        run_here(plan(spec), tmp_path, request=Request(resume=True))


def test_a_job_file_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    spec = job("a")
    path = RunPaths(tmp_path).job(spec.job_id).job
    path.parent.mkdir(parents=True)
    path.write_text('{"job_id"')
    assert run_here(plan(spec), tmp_path).exit_code == 0
    assert spec_from_json(json.loads(path.read_text())) == spec


def test_what_is_out_of_reach_is_left_and_the_rest_runs(tmp_path: Path) -> None:
    summary = run_here(plan(job("far", resolved=False), job("near")), tmp_path)
    assert (summary.submitted, summary.exit_code) == (1, 1)
    assert list(summary.kept.values()) == [Why.UNRESOLVED]


def test_a_runner_that_falls_over_leaves_its_message_and_is_tried_a_few_times(tmp_path: Path) -> None:
    over = plan(job("a", config={"crash": True}), job("b"))
    summary = run_here(over, tmp_path)
    assert summary.counts == {State.NEW: 1, State.SUCCEEDED: 1}
    assert list(summary.kept.values()) == [Why.GAVE_UP]
    assert summary.exit_code == 1


def test_an_attempt_that_came_back_without_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker lives on after its job: without an end its claim would look as if the job still ran."""
    spec = job("a")
    run_here(plan(spec, sweep="other"), tmp_path, request=Request(only=frozenset()))
    paths = JobPaths(RunPaths(tmp_path).job(spec.job_id).folder)
    paths.folder.mkdir(parents=True)
    paths.job.write_text("{}")
    monkeypatch.setattr("jobs.main.run", _claims_and_returns)
    run_attempt(paths.job, 1, base.RUNNER)
    events = [json.loads(line) for line in paths.attempt(1).events.read_text().splitlines()]
    assert [(event["kind"], event["failure"]) for event in events] == [("FAILED", "ERROR")]
    assert "without saying how" in events[0]["message"]


def _claims_and_returns(job_file: Path, *, attempt: int) -> int:
    from jobs.main import claim

    assert claim(JobPaths(job_file.parent), attempt) is not None
    return 0


def test_points_that_an_edited_sweep_no_longer_has_are_cancelled_on_request(tmp_path: Path) -> None:
    first = start(tmp_path, "inline", name="drop", seconds=60.0, count=1)
    over = client.chains("drop", 60.0, 1)
    folder = RunPaths(tmp_path).job(over.jobs[0].job_id).folder
    try:
        wait_until(lambda: bool(bodies(folder)), "the job to start")
        summary = run_here(plan(job("keep")), tmp_path, prune=True)
        assert set(summary.cancelled) == {spec.job_id for spec in over.jobs}
        assert first.wait(30) == 1
    finally:
        first.kill()
        first.communicate()
    after = preview(over, RunPaths(tmp_path), base.load(client.cluster(tmp_path, "inline"))).states
    assert {status.state for status in after.values()} == {State.CANCELLED}, "running and queued"
    assert [number for number, _ in bodies(folder)] == [1]


def test_a_point_that_another_sweep_still_has_is_not_cancelled(tmp_path: Path) -> None:
    shared, own = job("shared"), job("own")
    run_here(plan(shared, own, sweep="first"), tmp_path)
    run_here(plan(shared, sweep="second"), tmp_path)
    config = client.cluster(tmp_path, "inline")
    seen = preview(plan(job("new"), sweep="first"), RunPaths(tmp_path), base.load(config), prune=True)
    assert own.job_id in seen.states
    assert shared.job_id not in seen.states


def test_two_clients_at_once_run_each_job_once_and_lose_none(tmp_path: Path) -> None:
    """Several rounds with real processes: the same sweep, submitted by both at the same moment."""
    for number in range(4):
        root = tmp_path / str(number)
        both = [start(root, "inline", seconds=0.02, count=6) for _ in range(2)]
        outputs = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        assert set(map(tuple, ran(client.chains("c", 0.02, 6), root).values())) == {(1,)}
        submitted = [json.loads(out.splitlines()[-1])["submitted"] for out, _ in outputs]
        assert sum(submitted) == 18


def test_a_client_takes_over_what_another_that_was_killed_left(tmp_path: Path) -> None:
    # Long enough that the second client has started, on a busy machine too, while the first job still runs.
    over = client.chains("c", 4.0, 1)
    first = start(tmp_path, "inline", seconds=4.0, count=1)
    folder = RunPaths(tmp_path).job(over.jobs[0].job_id).folder
    wait_until(lambda: bool(bodies(folder)), "the first job to start")
    second = start(tmp_path, "inline", seconds=4.0, count=1)
    assert second.stdout is not None
    assert json.loads(second.stdout.readline())["kind"] == "round"
    first.kill()
    first.communicate()
    out, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert json.loads(out.splitlines()[-1])["counts"] == {"SUCCEEDED": 3}
    attempts = ran(over, tmp_path)
    assert all(len(set(numbers)) == len(numbers) for numbers in attempts.values()), "no attempt ran twice"
    assert len(attempts["c0/train"]) == 2
    assert sum(map(len, attempts.values())) == 4
    assert intents.open_intents(RunPaths(tmp_path)) == []


def test_cancelling_what_nobody_runs_does_nothing(tmp_path: Path) -> None:
    spec = job("a")
    run_here(plan(spec), tmp_path)
    config = client.cluster(tmp_path, "inline")
    assert cancel(RunPaths(tmp_path), config, [spec.job_id]) == ()
    backend = base.load(config)
    assert submit(plan(spec), RunPaths(tmp_path), config, backend, machine={}).exit_code == 0
