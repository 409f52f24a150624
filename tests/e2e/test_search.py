"""A search with a real trainer: on Ray Tune losers stop, elsewhere all run in full, and what runs to its end is the same bytes in both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.e2e.conftest import Site

SWEEP = """sweep: searched
data: phantom
phases:
  train:
    trainer: classification
    config: {arch: slim, px: 32, channels: 1, init: random, labels: [pleural_effusion]}
    draws: {count: [64], repeats: 1}
    search: {scheduler: asha, metric: val/loss, samples: 6, space: {lr: {sample: log_uniform, from: 1e-7, to: 1e-2}}}
    pick: {metric: val/loss, mode: min}
    evaluate: [{data: same, split: test}]
report: {measure: auroc/pleural_effusion}
sample: {px: 32, n: 240, set: {train: {epochs: 60}}}
"""


def test_survivors_are_the_same_bytes_as_in_full_and_losers_are_shown_as_stopped(tmp_path: Path, site: Callable[[str, str], Site]) -> None:
    file = tmp_path / "searched.yaml"
    file.write_text(SWEEP, encoding="utf-8")
    full, searched = site("full", "inline"), site("searched", "ray")
    done = full.run("submit", str(file), "--sample")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend 'inline' stops nothing, so every sample of its search runs in full" in done.stdout
    done = searched.run("submit", str(file), "--sample")
    assert done.returncode == 0, done.stdout + done.stderr

    status, in_full = searched.status("searched", sample=True), full.status("searched", sample=True)
    assert [row["job"] for row in status["jobs"]] == [row["job"] for row in in_full["jobs"]], "one plan"
    assert in_full["counts"] == {"SUCCEEDED": 6}
    stopped = {row["job"] for row in status["jobs"] if row["state"] == "STOPPED"}
    trains = [row["job"] for row in status["jobs"] if row["stage"] == "train"]
    assert 0 < len(stopped) < len(trains)
    assert status["done"] == status["total"]
    assert all("was losing" in row["message"] for row in status["jobs"] if row["job"] in stopped)

    before, after = full.results(sample=True), searched.results(sample=True)
    survivors = [job for job in trains if job not in stopped]
    assert [after[job] for job in survivors] == [before[job] for job in survivors]
    assert not stopped & after.keys()
    (pick,) = [row["job"] for row in status["jobs"] if row["stage"] == "pick"]
    chosen = json.loads(after[pick])
    assert {item["status"] for item in chosen["candidates"]} == {"ok", "STOPPED"}
    assert chosen["choice"]["runs"][""]["job"] in survivors

    root = searched.root(sample=True)
    with sqlite3.connect(root / "mlflow" / "mlflow.db") as database:
        words = dict(database.execute("select value, status from runs join tags using (run_uuid) where key = 'job'").fetchall())
    assert {job for job, word in words.items() if word == "KILLED"} == stopped
    assert {words[job] for job in survivors} == {"FINISHED"}
    assert f"stopped up to {len(stopped)} of {len(trains)} candidates a pick" in (root / "sweeps/searched/report/report.html").read_text()

    again = searched.run("submit", str(file), "--sample", "--json")
    assert json.loads(again.stdout)["submitted"] == 0
    assert searched.results(sample=True) == after
