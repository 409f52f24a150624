"""The live view: what a frame shows, how often it asks, and when it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.events import append_event, process_identity
from jobs.spec import EventKind, FailureKind
from orchestrator import scheduler, watching
from orchestrator.console import out
from orchestrator.model import ClusterConfig
from orchestrator.scheduler import Answer
from orchestrator.watching import ASK_EVERY, Watcher, drawn, plain_lines, watch
from orchestrator.workspace import Workspace
from tests.orchestrator.standin import job, plan

TRAINS = tuple(job(f"t{n}", config={"monitor": {"metric": "val/auroc", "mode": "max"}}) for n in range(4))
PLAN = plan(*TRAINS)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One job runs in this process, one has failed, two are new."""
    here = Workspace(cluster=ClusterConfig(name="here", backend="inline", run_root=tmp_path, made_root=tmp_path))
    running, failed = (here.run.job(TRAINS[n].job_id).attempt(1) for n in (0, 1))
    for attempt in (running, failed):
        attempt.folder.mkdir(parents=True)
        attempt.claim.write_text(json.dumps(process_identity()), encoding="utf-8")
        append_event(attempt.events, EventKind.STARTED, **process_identity())
    curve = (0.6, 0.9, 0.8)
    lines = [{"step": 10 * n, "epoch": n, "metrics": {"val/auroc": value, "train/loss": 1.0}} for n, value in enumerate(curve, 1)]
    running.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    append_event(failed.events, EventKind.FAILED, failure=str(FailureKind.ERROR), message="ValueError: no", for_people=False)
    return here


def end(workspace: Workspace) -> None:
    attempt = workspace.run.job(TRAINS[0].job_id).attempt(1)
    append_event(attempt.events, EventKind.CANCELLED, message="enough")


def test_a_frame_shows_counts_curves_and_failures(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    watch([PLAN], workspace, once=True)
    text = capsys.readouterr().out
    assert "toy: 0 of 4 done" in text
    (row,) = [line for line in text.splitlines() if line.startswith(TRAINS[0].short_id)]
    assert row.split() == [TRAINS[0].short_id, "train", "t0", "3", "30", "val/auroc", "▁█▆", "0.8"]
    assert f"1 failed, such as {TRAINS[1].short_id} t1: ValueError: no" in text


def test_more_running_jobs_than_fit_are_counted(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SHOWN", 0)
    frame = Watcher([PLAN], workspace).look()
    assert (frame.running, frame.more) == ((), 1)
    console = out()
    with console.capture() as caught:
        console.print(drawn(frame))
    assert "and 1 more" in caught.get()


def test_the_scheduler_is_asked_now_and_then_and_the_files_at_every_look(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    clock = 100.0

    def ask(*_: object) -> Answer:
        asked.append(clock)
        return Answer()

    monkeypatch.setattr(scheduler, "ask", ask)
    watcher = Watcher([PLAN], workspace, now=lambda: clock)
    for _ in range(31):
        assert len(watcher.look().running) == 1
        clock += 1.0
    assert asked == [100.0, 100.0 + ASK_EVERY, 100.0 + 2 * ASK_EVERY]
    end(workspace)
    assert watcher.look().is_over


def test_without_a_terminal_it_prints_what_changed_and_ends_when_nothing_runs(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def pause(_: float) -> float:
        nonlocal looks
        looks += 1
        if looks == 3:
            end(workspace)
        return 0.0

    monkeypatch.setattr(watching, "_pause", pause)
    watch([PLAN], workspace)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("toy:")] == [
        "toy: 0 of 4 done; 1 failed, 2 new, 1 running",
        "toy: 0 of 4 done; 1 cancelled, 1 failed, 2 new",
    ]
    assert sum("ValueError: no" in line for line in lines) == 1
    assert lines[-1] == "nothing is queued or running"


def test_ctrl_c_ends_the_view_and_nothing_else(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(_: float) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "_pause", press)
    watch([PLAN], workspace)
    assert "nothing is queued" not in capsys.readouterr().out


def test_silence_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "ask", lambda *_: Answer(silence="the scheduler does not answer"))
    assert plain_lines(Watcher([PLAN], workspace).look())[-1] == "files only: the scheduler does not answer"
