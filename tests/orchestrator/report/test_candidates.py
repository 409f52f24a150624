"""What became of the candidates of a pick, counted once, also where another pick decided."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from jobs.paths import RunPaths
from jobs.spec import Input, JobSpec, Stage
from orchestrator.report.results import _statuses
from tests.orchestrator.standin import job


def leave(run: RunPaths, pick: JobSpec, *statuses: str) -> None:
    """Write a pick's result, with its candidates."""
    file = run.job(pick.job_id).result
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"candidates": [{"status": status} for status in statuses]}), encoding="utf-8")


def test_runs_that_one_pick_decided_for_count_its_candidates_once(tmp_path: Path) -> None:
    run, decided = RunPaths(tmp_path), job("decided", stage=Stage.PICK)
    trains = [replace(job(f"draw{number}"), inputs=(Input(role="tuned", job=decided.job_id),)) for number in range(3)]
    pick = job("pick", tuple(trains), stage=Stage.PICK)
    by_id = {one.job_id: one for one in (decided, *trains, pick)}
    assert _statuses(pick.job_id, run, by_id) == {}
    leave(run, pick, "ok")
    leave(run, decided, "ok", "STOPPED", "DIVERGED", "NO_VALUE")
    assert _statuses(pick.job_id, run, by_id) == {"ok": 1, "STOPPED": 1, "DIVERGED": 1, "NO_VALUE": 1}
