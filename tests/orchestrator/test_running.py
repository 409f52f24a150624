"""What `submit` says when it leaves a sweep to a cluster: what was handed over, who does what, what remains for whom."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from jobs.spec import FailureKind, State
from orchestrator.console import out
from orchestrator.decide import Why
from orchestrator.ledger import JobStatus
from orchestrator.model import ClusterConfig, Limits, SlurmSite
from orchestrator.running import _leave
from orchestrator.submit import Summary
from orchestrator.workspace import Workspace
from tests.orchestrator.standin import job, plan

JOBS = tuple(job(f"t{n}") for n in range(4))
PLAN = plan(*JOBS)


def said(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    states: Mapping[int, State],
    kept: Mapping[int, Why] | None = None,
    *,
    keeper: bool = False,
) -> list[str]:
    """Return the lines of a submission that left these jobs so."""
    found = {
        one.job_id: JobStatus(
            job_id=one.job_id,
            state=states.get(n, State.SUBMITTED),
            attempt=1,
            failure=FailureKind.ERROR if states.get(n) is State.FAILED else None,
            message="ValueError: no" if states.get(n) is State.FAILED else "",
        )
        for n, one in enumerate(JOBS)
    }
    why = {JOBS[n].job_id: reason for n, reason in (kept or {}).items()}
    summary = Summary(sweep="toy", submitted=len(JOBS) - len(why), states=found, kept=why)
    config = ClusterConfig(
        name="site",
        backend="slurm",
        run_root=folder,
        made_root=folder,
        limits=Limits(gpu_hours=40),
        slurm=SlurmSite(keeper=keeper, stop_after=3, signal_lead=120),
    )
    _leave(PLAN, Workspace(cluster=config, cluster_argument="site"), Path("sweeps/toy.yaml"), summary, out())
    return capsys.readouterr().out.splitlines()


def test_what_was_handed_over_and_who_does_what_from_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, tmp_path, {}, dict.fromkeys(range(2), Why.IN_FLIGHT))
    assert lines[0] == "toy: 2 jobs handed over; 4 submitted"
    assert lines[1] == "you may log out:"
    assert lines[2] == "  Slurm: starts them, and starts them again after preemption, a time limit or a lost node"
    assert "save 120 s before their time limit" in lines[3]
    assert "stop the sweep when 3 of them fail at one place, stop when its 40 GPU-hours are used" in lines[3]
    assert lines[4].startswith("  the next submit or resume: goes on with what was killed or lost")
    assert lines[5:] == [
        "look: orchestrate status toy --cluster site",
        "follow: orchestrate watch toy --cluster site",
        "when it is done: orchestrate report sweeps/toy.yaml --cluster site",
    ]


def test_a_keeper_takes_the_part_of_the_next_submit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(line.startswith("  a keeper job: goes on with") for line in said(capsys, tmp_path, {}, keeper=True))


def test_what_remains_for_a_person_names_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, tmp_path, {1: State.FAILED, 2: State.NEW}, {1: Why.FAILED, 2: Why.QUEUE_FULL})
    assert "left: 1 job (failed, waits for resume)" in lines
    assert "left: 1 job (beyond what may be queued at once)" in lines
    assert "for you: failed, waits for resume: orchestrate resume sweeps/toy.yaml --cluster site" in lines
    assert "for you: beyond what may be queued at once: orchestrate submit sweeps/toy.yaml --cluster site" in lines
    assert any(line.startswith(f"1 failed, such as {JOBS[1].short_id} t1: ValueError: no") for line in lines)


def test_nothing_left_with_the_cluster_needs_no_log_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, tmp_path, dict.fromkeys(range(4), State.SUCCEEDED))
    assert lines[0] == "toy: 4 jobs handed over; 4 succeeded"
    assert not any("log out" in line for line in lines)
