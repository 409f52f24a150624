"""A point that diverges in a real study: the study goes on, and it is told what became of it."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.spec import Stage
from tests.e2e.lab import LABELS, Lab, assert_said, make_data

SWEEP = f"""sweep: lost
data: chexpert
phases:
  tune:
    trainer: classification
    config: {{arch: slim, px: 32, {LABELS}, epochs: 2, batch_size: 8, solver: sgd}}
    tune: {{lr: [1e-3, 1e+30]}}
    draws: {{count: [24], repeats: 1}}
    pick: {{metric: val/loss, mode: min}}
    evaluate: [{{data: same, split: test}}]
report: {{measure: auroc/pleural_effusion}}
"""


def test_a_point_that_diverged_loses_and_the_study_goes_on(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab", make_data(tmp_path))
    sweep = lab.write("lost.yaml", SWEEP)
    assert_said(lab.type("submit", sweep), 0, "1 failed, 3 succeeded", "left: 1 job (lost, is not retried)", "report: ")
    good, bad = lab.jobs(Stage.TRAIN, "lost")
    assert_said(lab.type("status", "lost"), 0, f"1 failed, such as {bad.short_id}", "it lost: a pick passes over it")
    (pick,) = lab.jobs(Stage.PICK, "lost")
    picked = json.loads(lab.results()[pick.job_id])
    assert [one["status"] for one in picked["candidates"]] == ["ok", "DIVERGED"]
    assert picked["choice"]["runs"][""]["job"] == good.job_id
    report = lab.run.sweep("lost").report
    (row,) = json.loads((report / "report.json").read_text(encoding="utf-8"))["ledger"]
    assert (row["present"], row["train_job"], row["candidates"], row["lost"]) == (True, good.job_id, 2, 1)
    assert "one of 2, 1 of them diverged, collapsed or without a value" in (report / "report.html").read_text(encoding="utf-8")
    # Nobody tries it again unless its kind is named.
    assert_said(lab.type("resume", sweep), 0, "nothing left to run")
    assert_said(lab.type("resume", sweep, "--failure", "DIVERGED"), 0, "1 job run")
    assert lab.attempts(Stage.TRAIN, "lost") == [1, 2]
