"""Every shipped sweep, end to end, as a person would run it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.e2e.conftest import ROOT, Site, short_quickstart

SWEEPS = sorted(path for path in (ROOT / "sweeps").glob("*.yaml"))
#: By the sweep whose sample it submits.
NOTEBOOKS = {"quickstart": ROOT / "docs" / "howto" / "from_python.ipynb"}


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_runs_with_sample(sweep: Path, site: Callable[[str, str], Site], monkeypatch: pytest.MonkeyPatch) -> None:
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
    if sweep.stem in NOTEBOOKS:
        monkeypatch.setenv("ORCHESTRATE_CLUSTER", str(here.config))
        run_the_notebook(NOTEBOOKS[sweep.stem], status["total"])


def run_the_notebook(path: Path, jobs: int) -> None:
    """Execute every cell in a kernel of its own, as a person would in the project's folder, and look at what the cells show."""
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output.get("text", "") for output in shown)
    assert f"{jobs} of {jobs} jobs need nothing more" in said
    assert sum("image/png" in output.get("data", {}) for output in shown) == 1


def test_a_second_submission_runs_nothing_and_changes_nothing(tmp_path: Path, site: Callable[[str, str], Site]) -> None:
    here, sweep = site("here", "inline"), str(short_quickstart(tmp_path))
    assert here.run("submit", sweep, "--sample").returncode == 0
    before, report = here.results(sample=True), here.report("short", sample=True)
    again = here.run("submit", sweep, "--sample", "--json")
    assert json.loads(again.stdout)["submitted"] == 0
    assert here.results(sample=True) == before
    assert here.report("short", sample=True) == report
