"""Every shipped sweep, end to end, as a person would run it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Site, short_quickstart

SWEEPS = sorted(path for path in (ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_runs_with_sample(sweep: Path, site: Callable[[str, str], Site]) -> None:
    here = site("here", "ray")
    done = here.run("submit", str(sweep), "--sample", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "numbers mean nothing" in done.stdout
    status = here.status(sweep.stem, sample=True)
    assert status["done"] == status["total"] > 0
    folder = here.root(sample=True) / "sweeps" / sweep.stem / "report"
    reported = any(group["stage"] == "evaluate" for group in status["groups"])
    if reported:
        report = json.loads((folder / "report.json").read_text())
        assert report["n_present"] == report["n_planned"] > 0
        assert "made data" in (folder / "report.html").read_text().lower()
    else:
        # A pretraining whose test sets stay shut until another sweep uses it.
        assert "evaluates nothing" in done.stdout and not folder.exists()
    trains = sum(group["total"] - group["counts"].get("STOPPED", 0) for group in status["groups"] if group["stage"] == "train")
    with sqlite3.connect(here.root(sample=True) / "mlflow" / "mlflow.db") as database:
        kinds = database.execute(
            "select value, count(*) from tags join runs using (run_uuid) where key = 'orch.kind' and status = 'FINISHED' group by value"
        )
        assert dict(kinds.fetchall()) == {"trial": trains, **({"sweep": 1} if reported else {})}


def test_a_second_submission_runs_nothing_and_changes_nothing(tmp_path: Path, site: Callable[[str, str], Site]) -> None:
    here, sweep = site("here", "inline"), str(short_quickstart(tmp_path))
    assert here.run("submit", sweep, "--sample").returncode == 0
    before, report = here.results(sample=True), here.report("short", sample=True)
    again = here.run("submit", sweep, "--sample", "--json")
    assert json.loads(again.stdout)["submitted"] == 0
    assert here.results(sample=True) == before
    assert here.report("short", sample=True) == report
