"""A study of a thousand draws in the MLflow UI: its views open, find all of them, and tell two arms apart."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.mirror import ui as mlflow_ui
from orchestrator.mirror.stores import default_uri, sqlite_file
from orchestrator.mirror.ui import UiCommand
from orchestrator.mirror.views import saved_views
from tests.browser.test_mlflow_ui import PATIENCE, Seen, seen
from tests.orchestrator.mirror.mirrored import client_of, runs_of
from tests.orchestrator.mirror.played import SWEEP, Player, plan_of
from tests.orchestrator.mirror.servers import answering, free_port

__all__ = ["seen"]
COPIES = 170
MEASURE = "test/phantom/auroc_macro"
CELLS = [f"finetune/after={arm}|fraction={fraction}" for arm in ("none", "pretrain") for fraction in ("0.1", "1")]
#: Tables of MLflow with a row or more a run, by the column that names the run.
TABLES = {"runs": "run_uuid", "tags": "run_uuid", "params": "run_uuid", "latest_metrics": "run_uuid", "metrics": "run_uuid"}


def multiply(database: Path, identities: list[str]) -> None:
    """Copy runs as rows, with identities and names of their own: a sync of a thousand real ones would take a minute."""
    with sqlite3.connect(database) as store:
        columns = {table: [row[1] for row in store.execute(f"PRAGMA table_info({table})")] for table in TABLES}
        for identity in identities:
            for copy in range(COPIES - 1):
                own = uuid.uuid4().hex
                for table, key in TABLES.items():
                    listed = ", ".join(f'"{name}"' for name in columns[table])
                    taken = ", ".join("?" if name == key else f'"{name}"' for name in columns[table])
                    store.execute(f"INSERT INTO {table} ({listed}) SELECT {taken} FROM {table} WHERE {key} = ?", (own, identity))
                store.execute("UPDATE params SET value = ? WHERE key = 'draw' AND run_uuid = ?", (str(copy + 10), own))
                store.execute("UPDATE runs SET name = name || ? WHERE run_uuid = ?", (f"-copy{copy:03d}", own))
                store.execute("UPDATE tags SET value = value || ? WHERE key = 'mlflow.runName' AND run_uuid = ?", (f"-copy{copy:03d}", own))
                for table in ("latest_metrics", "metrics"):
                    store.execute(f"UPDATE {table} SET value = value + ? WHERE key = ? AND run_uuid = ?", (copy * 1e-4, MEASURE, own))


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UiCommand]:
    folder = tmp_path_factory.mktemp("thousand")
    plan = plan_of(folder)
    run = RunPaths(folder / "run")
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    database = sqlite_file(default_uri(run))
    assert database is not None
    # The views of a plan that has them all.
    many = plan_of(folder / "many", SWEEP.replace("repeats: [2, 1]", f"repeats: [{2 * COPIES}, {COPIES}]"))
    client = client_of(run)
    for key, value in saved_views(many, ()).items():
        client.set_experiment_tag("1", key, value)
    multiply(database, [one.info.run_id for one in runs_of(run, "play").values() if MEASURE in one.data.metrics])
    with answering(mlflow_ui.serve(run, port=free_port())) as command:
        yield command


@pytest.mark.needs("chromium")
def test_a_thousand_draws_are_listed_by_cell(ui: UiCommand, seen: Seen, tmp_path: Path) -> None:
    # A cell is one line with the mean of its draws, and every cell of both arms is on the first page of a hundred runs.
    seen.open(mlflow_ui.links(ui)["play"], *CELLS)
    seen.picture(tmp_path / "thousand.png")
    assert "Load more" in seen.page.inner_text("body")


@pytest.mark.needs("chromium")
def test_a_thousand_draws_are_lines(ui: UiCommand, seen: Seen, tmp_path: Path) -> None:
    seen.open(mlflow_ui.further_links(ui, "play")["draws as lines"], "Draws as lines")
    seen.page.locator(".parcoords .dimension").nth(2).wait_for(timeout=PATIENCE)
    seen.picture(tmp_path / "lines.png")
    ticks = seen.page.locator(".parcoords .dimension .tick").all_text_contents()
    assert {"none", "pretrain"} <= {tick.strip() for tick in ticks}
