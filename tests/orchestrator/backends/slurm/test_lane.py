"""What a start on a node reads from files before it runs anything: verdicts, fingerprints, kills for memory, and budgets."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.events import append_event
from jobs.main import EXIT_DONE, EXIT_FAILED, EXIT_REFUSED, claim
from jobs.paths import AttemptPaths, JobPaths, RunPaths
from jobs.spec import LOSING_FAILURES, EventKind, FailureKind, JobSpec, Json, Stage, pretty_json, spec_to_json
from orchestrator import intents, policy, stop_file
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.backends.slurm.brakes import count_failure, fingerprint
from orchestrator.backends.slurm.lane import Lane, Verdict, last_saved, verdict
from orchestrator.backends.slurm.memory import kills_for_memory
from orchestrator.backends.slurm.usage import Budget, gpu_hours
from orchestrator.errors import BackendError
from orchestrator.intents import Intent
from tests.orchestrator.standin import job

JOB = "ab" + "0" * 62


def attempted(paths: JobPaths, *ends: tuple[EventKind, dict[str, Json]]) -> AttemptPaths:
    """Leave one claimed attempt for each end."""
    for kind, fields in ends:
        attempt = claim(paths, None)
        assert attempt is not None
        append_event(attempt.events, EventKind.STARTED)
        append_event(attempt.events, kind, **fields)
    return paths.attempts()[-1]


# --- verdicts ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_requeue_repeats_what_would_go_on_by_itself_and_nothing_else(tmp_path: Path, kind: FailureKind) -> None:
    attempted(JobPaths(tmp_path), (EventKind.FAILED, {"failure": str(kind)}))
    found = verdict(JobPaths(tmp_path), 1)
    if policy.continues(kind):
        assert found is None
    else:
        assert found == Verdict(code=EXIT_DONE if kind in LOSING_FAILURES else EXIT_FAILED)


def test_a_result_lets_the_next_job_start_and_a_cancellation_does_not(tmp_path: Path) -> None:
    done, gone, stopped = (JobPaths(tmp_path / name) for name in ("done", "gone", "stopped"))
    attempted(done, (EventKind.SUCCEEDED, {}))
    assert verdict(done, 1) is None
    done.result.write_text("{}")
    assert verdict(done, 1) == Verdict(code=EXIT_DONE, goes_on=True)
    attempted(gone, (EventKind.CANCELLED, {}))
    assert verdict(gone, 1) == Verdict(code=EXIT_REFUSED)
    attempted(stopped, (EventKind.STOPPED, {"resumable": True}))
    assert verdict(stopped, 1) is None


def test_what_failed_before_a_submission_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    attempted(JobPaths(tmp_path), (EventKind.FAILED, {"failure": "ERROR"}))
    assert verdict(JobPaths(tmp_path), 2) is None


def test_an_unknown_kind_of_failure_is_an_error(tmp_path: Path) -> None:
    attempted(JobPaths(tmp_path), (EventKind.FAILED, {"failure": "METEOR"}))
    assert verdict(JobPaths(tmp_path), 1) == Verdict(code=EXIT_FAILED)


def test_the_last_save_is_found_in_whichever_attempt_made_it(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    assert last_saved(paths) == (-1, -1)
    first = attempted(paths, (EventKind.CHECKPOINTED, {"step": 7, "epoch": 1}))
    append_event(first.events, EventKind.STOPPED, resumable=True)
    attempted(paths, (EventKind.FAILED, {"failure": "LOST"}))
    assert last_saved(paths) == (7, 1)


def lane_of(run: RunPaths, *specs: JobSpec) -> Lane:
    """Return a lane of these jobs, with their descriptions on disk."""
    for spec in specs:
        run.job(spec.job_id).job.parent.mkdir(parents=True)
        run.job(spec.job_id).job.write_text(pretty_json(spec_to_json(spec)))
    jobs = {spec.job_id: 1 for spec in specs}
    made = intents.new_intent(backend="slurm", sweep="toy", jobs=jobs, detaches=True, elements=((tuple(jobs),),))
    return Lane(Allocation(run, made, {}), list(jobs))


def test_what_fails_leaves_what_needs_it_and_a_requeue_has_the_rest_to_run(tmp_path: Path) -> None:
    run, train = RunPaths(tmp_path), job("train")
    pick = job("pick", (train,), stage=Stage.PICK)
    first, second = (job(name, (pick,), stage=Stage.EVALUATE) for name in ("first", "second"))
    lane, ids = lane_of(run, train, pick, first, second), [one.job_id for one in (train, pick, first, second)]
    assert lane._without(train.job_id, ids) == []
    assert lane._without(first.job_id, ids[2:]) == [second.job_id]
    for done in (train, pick):
        run.job(done.job_id).result.write_text("{}")
    attempted(run.job(first.job_id), (EventKind.FAILED, {"failure": "ERROR"}))
    assert lane.code_if_over() is None, "the second evaluation is yet to run"
    run.job(second.job_id).result.write_text("{}")
    assert lane.code_if_over() == EXIT_FAILED
    # One that cannot be read may need anything.
    run.job(second.job_id).job.write_text("torn")
    assert lane._without(first.job_id, ids[2:]) == []


def test_what_needs_a_failure_is_not_left_to_run(tmp_path: Path) -> None:
    run, train = RunPaths(tmp_path), job("train")
    lane = lane_of(run, train, job("pick", (train,), stage=Stage.PICK))
    assert lane.code_if_over() is None
    attempted(run.job(train.job_id), (EventKind.FAILED, {"failure": "ERROR"}))
    assert lane.code_if_over() == EXIT_FAILED


# --- the file that stops a sweep ---------------------------------------------------------------------------------------------------------


def shallow(value: object) -> None:
    raise ValueError(f"bad {value}")


def deep(value: object) -> None:
    shallow(value)


def wordy(value: object) -> None:
    raise ValueError(f"first line\n{value}: of a second\nand {value}")


def failed(run: RunPaths, job: str, function: Callable[[object], None], value: object, failure: str = "ERROR") -> AttemptPaths:
    """Leave an attempt that failed as a function does."""
    attempt = attempted(run.job(job), (EventKind.FAILED, {"failure": failure, "message": "it\nfailed"}))
    try:
        function(value)
    except ValueError:
        attempt.traceback.write_text(traceback.format_exc())
    return attempt


def test_a_fingerprint_is_of_the_place_and_never_of_the_values(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    found = [
        fingerprint(failed(run, f"{n:012}" + "0" * 52, *how))
        for n, how in enumerate([(shallow, 1), (shallow, "x"), (deep, 1), (wordy, 1), (wordy, 2)])
    ]
    assert found[0] == found[1]
    assert found[3] == found[4]
    assert len(set(found)) == 3
    assert fingerprint(attempted(run.job(JOB), (EventKind.STARTED, {}))) == ""


def intent(**terms: Json) -> Intent:
    return intents.new_intent(backend="slurm", sweep="toy", jobs={JOB: 1}, detaches=True, elements=(((JOB,),),), terms=terms)


def count(run: RunPaths, made: Intent, number: int, function: Callable[[object], None] = shallow, failure: str = "ERROR") -> str:
    job = f"{number:012}" + "0" * 52
    count_failure(run, made, job, failed(run, job, function, number, failure))
    return stop_file.reason(run, "toy")


def test_the_third_job_that_fails_at_one_place_stops_the_sweep(tmp_path: Path) -> None:
    run, made = RunPaths(tmp_path), intent(stop_after=3)
    assert not count(run, made, 1)
    assert not count(run, made, 2, deep)
    # The same job again is not another one, and what lost or ran out of memory is no mistake in the code.
    assert not count(run, made, 1)
    assert not count(run, made, 3, failure="HOST_OOM")
    assert not count(run, made, 4)
    assert "3 jobs failed at the same place" in count(run, made, 5)
    with pytest.raises(BackendError, match=r"STOP: the sweep was stopped: 3 jobs failed .* with 'it failed'; put it right"):
        stop_file.refuse(run, "toy")
    stop_file.clear(run, "toy")
    stop_file.refuse(run, "toy")
    assert not count(run, made, 6)


def test_the_canary_stops_the_sweep_alone_and_nothing_does_where_that_is_switched_off(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    assert not any(count(run, intent(stop_after=0), number) for number in range(5))
    assert "the first job, " in count(run, intent(stop_after=0, canary=True), 9, failure="CUDA_OOM")


# --- memory and budget -------------------------------------------------------------------------------------------------------------------


def test_kills_are_counted_where_control_groups_tell_of_them(tmp_path: Path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "sys"
    (root / "job/task").mkdir(parents=True)
    (root / "memory/slurm").mkdir(parents=True)
    (root / "job/task/memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n")
    (root / "memory/slurm/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    membership.write_text("0::/job/task\n")
    assert kills_for_memory(membership, root) == 2
    membership.write_text("9:cpu,cpuacct:/slurm\n4:memory:/slurm\n0::/elsewhere\n")
    assert kills_for_memory(membership, root) == 5
    membership.write_text("0::/elsewhere\n")
    assert kills_for_memory(membership, root) == 0
    assert kills_for_memory(tmp_path / "none", root) == 0


def test_a_budget_is_over_when_the_sum_of_all_allocations_reaches_it(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    allocation = Allocation(run, replace(intent(gpu_hours=1.0, gpus=2), native={"id": "7", "array": False}), {})
    assert Budget(allocation).look() == ""
    usage = run.sweep("toy").usage
    usage.mkdir(parents=True)
    for name in ("aaaaaaaaaaaa-0-0@1800", "aaaaaaaaaaaa-1-0@1799", "half written", "x@y"):
        (usage / name).touch()
    assert Budget(allocation).look() == ""
    (usage / "aaaaaaaaaaaa-1-0@1799").rename(usage / "aaaaaaaaaaaa-1-0@1800")
    assert gpu_hours(run, "toy") == 1.0
    assert "1 of 1 GPU-hours are used" in Budget(allocation).look()
    assert Budget(Allocation(run, intent(gpus=2), {})).look() == ""


def test_a_signal_long_before_the_limit_is_none_for_want_of_time(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    assert Allocation(run, intent(minutes=1, signal_lead=10), {}).is_at_its_limit()
    assert not Allocation(run, intent(minutes=600, signal_lead=120), {}).is_at_its_limit()
    assert not Allocation(run, intent(), {}).is_at_its_limit()
