"""Where sweeps stand, in words and for machines, from states that a scheduler gave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import intents, stop_file
from orchestrator.ledger import JobStatus
from orchestrator.model import ClusterConfig, Limits, Plan
from orchestrator.scheduler import Answer, Efficiency, Used
from orchestrator.sightings import Sighting
from orchestrator.standing import Standings, hours_in_words, print_efficiency, standings_json, standings_of, troubles, waits_in_words
from orchestrator.status import status_of
from orchestrator.workspace import Workspace
from tests.orchestrator.standin import job, plan

JOBS = tuple(job(f"t{n}") for n in range(6))
PLAN = plan(*JOBS)


def workspace(folder: Path, **limits: float) -> Workspace:
    config = ClusterConfig(name="site", backend="slurm", run_root=folder, made_root=folder, limits=Limits(**limits))  # pyright: ignore[reportArgumentType]
    return Workspace(cluster=config)


def pending(reason: str, number: int = 0) -> Sighting:
    return Sighting(state=State.SUBMITTED, word="PENDING", reason=reason, native=f"7_{number}")


def handed_over(run: RunPaths, over: Plan) -> None:
    """Write the intent of a plan as a submission leaves it."""
    intent = intents.new_intent(
        backend="slurm",
        sweep=over.sweep,
        jobs={one.job_id: 1 for one in over.jobs},
        detaches=True,
        elements=tuple(((one.job_id,),) for one in over.jobs),
    )
    intents.record(run, intent)
    intents.record_native(run, intent, {"id": "7", "array": True})


def look(folder: Path, *reasons: str, **limits: float) -> Standings:
    """Return where the plan stands with its first jobs pending for these reasons, and the rest not heard of."""
    here = workspace(folder, **limits)
    handed_over(here.run, PLAN)
    seen = {one.job_id: pending(reason, n) for n, (one, reason) in enumerate(zip(JOBS, reasons, strict=False))}
    return standings_of([PLAN], here, Answer(sightings=seen))


def test_jobs_that_wait_are_grouped_by_reason_the_most_frequent_first(tmp_path: Path) -> None:
    (one,) = look(tmp_path, "Priority", "Resources", "Priority", "JobHeldUser", "Priority", "Moon").sweeps
    assert [(wait.reason, wait.number) for wait in one.status.waits] == [("Priority", 3), ("Resources", 1), ("JobHeldUser", 1), ("Moon", 1)]
    lines = waits_in_words(one)
    assert lines[0].startswith("3 jobs wait: others in its partition come first")
    assert lines[0].endswith("[Priority]")
    assert lines[2] == "1 job waits: you hold it (`scontrol release 7_3` lets it go on) [JobHeldUser]"
    assert lines[3] == "1 job waits: Slurm says: Moon [Moon]"


def test_machines_are_told_the_same(tmp_path: Path) -> None:
    (told,) = json.loads(json.dumps(standings_json(look(tmp_path, "Priority", "Priority", "Resources"))))
    assert told["counts"] == {"SUBMITTED": 3, "UNKNOWN": 3}
    assert [(one["reason"], one["jobs"], one["such_as"]) for one in told["waiting"]] == [
        ("Priority", 2, JOBS[0].job_id),
        ("Resources", 1, JOBS[2].job_id),
    ]
    assert "next in line" in told["waiting"][1]["why"]
    assert [row["reason"] for row in told["jobs"]] == ["Priority", "Priority", "Resources", "", "", ""]
    assert told["scheduler_silent"] == ""


def test_what_nobody_says_anything_of_is_said_to_be_so(tmp_path: Path) -> None:
    (one,) = look(tmp_path, "Priority").sweeps
    (line,) = troubles(one.status)
    assert line.startswith(f"5 unknown, such as {JOBS[1].short_id} t1: it was handed over, and neither it nor the scheduler")


def test_a_stopped_sweep_says_that_nothing_starts(tmp_path: Path) -> None:
    stop_file.write(RunPaths(tmp_path), "toy", "3 jobs failed at the same place")
    (one,) = look(tmp_path, "Priority").sweeps
    assert waits_in_words(one)[0].startswith("nothing of it starts: the sweep was stopped: 3 jobs failed at the same place; put it right")


def test_gpu_hours_stand_beside_their_budget(tmp_path: Path) -> None:
    usage = RunPaths(tmp_path).sweep("toy").usage
    usage.mkdir(parents=True)
    (usage / "a-0-0@5400").touch()
    (one,) = look(tmp_path, gpu_hours=4.0).sweeps
    assert hours_in_words(one) == ["1.5 of 4 GPU-hours used, 2.5 left"]
    (usage / "a-1-0@9000").touch()
    (one,) = look(tmp_path, gpu_hours=4.0).sweeps
    assert "4 of 4 GPU-hours are used" in waits_in_words(one)[0]


def test_where_nobody_keeps_a_queue_nothing_is_said_of_it(tmp_path: Path) -> None:
    here = Workspace(cluster=ClusterConfig(name="here", backend="inline", run_root=tmp_path, made_root=tmp_path))
    (one,) = standings_of([PLAN], here, Answer()).sweeps
    assert (waits_in_words(one), hours_in_words(one), one.gpu_hours) == ([], [], None)


def test_a_running_job_waits_for_nothing() -> None:
    running = JobStatus(job_id=JOBS[0].job_id, state=State.RUNNING, sighting=Sighting(state=State.RUNNING, word="RUNNING", node="n1"))
    others = {one.job_id: JobStatus(job_id=one.job_id, state=State.NEW) for one in JOBS[1:]}
    assert status_of(PLAN, {running.job_id: running, **others}).waits == ()


def test_the_table_of_what_was_used_says_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    row = Used(
        phase="pretrain",
        stages="train+pick",
        allocations=3,
        runs=5,
        gpu_hours=12.5,
        lost_gpu_hours=2.25,
        lost_runs={"FAILED": 1, "PREEMPTED": 1},
        memory_asked_mb=32 * 1024,
        memory_used_mb=None,
        hours_asked=12.0,
        hours_used=1.5,
        advice=("`time: 3h` is enough",),
    )
    print_efficiency(Efficiency(rows=(row,), gpu_hours=12.5, note="accounting is behind"), Console(width=120))
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[1:2]] == [
        ["pretrain", "train+pick", "5", "12.50", "2.25", "?", "32.0", "G", "1", "h", "30", "min", "12", "h", "00", "min"]
    ]
    assert "pretrain: of 5 runs for 3 allocations: 1 failed, 1 preempted" in out
    assert "pretrain: `time: 3h` is enough" in out
    assert "12.5 GPU-hours together; accounting is behind" in out
