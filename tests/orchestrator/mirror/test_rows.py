"""Points that are written into a sqlite file as rows: the same store as MLflow itself would have made."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.mirror import rows
from orchestrator.mirror.entries import Point
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, export, runs_of, seed_database
from tests.orchestrator.mirror.played import Player, trains, write_line


def long_series(plan: Plan, run: RunPaths, steps: int = 600) -> None:
    """Play a job whose series are long, and go back once, as a resumed attempt does."""
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    for step in [*range(100, 100 + steps), 90]:
        write_line(run, job, 1, {"train/loss": 1 / step, "val/loss": -3.5 * step, "train/lr": 1e-3}, step=step)


def tables(run: RunPaths) -> tuple[list[Any], list[Any]]:
    """Return all rows of the two tables of points, as they lie in the file."""
    with closing(sqlite3.connect(run.mlflow / "mlflow.db")) as connection:
        each = [connection.execute(f"select key, value, timestamp, step, is_nan from {name}").fetchall() for name in _TABLES]
    return sorted(each[0]), sorted(each[1])


_TABLES = ("metrics", "latest_metrics")


def test_rows_are_those_that_mlflow_writes(
    plan: Plan, run: RunPaths, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_series(plan, run)
    other = RunPaths(tmp_path / "other")
    shutil.copytree(run.root, other.root, ignore=shutil.ignore_patterns("mlflow"))
    seed_database(other, template)
    first = tracking.sync(plan, run)
    assert len(tables(run)[0]) == first.metrics > 1800
    with monkeypatch.context() as patched:
        patched.setattr(rows, "FEWEST", 10**9)
        assert tracking.sync(plan, other).metrics == first.metrics
    assert tables(run) == tables(other)
    assert export(run, "play") == export(other, "play")
    assert tracking.sync(plan, run).metrics == 0


def test_most_values_never_become_objects(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    long_series(plan, run)
    real, sent = MlflowClient.log_batch, [0]

    def counted(client: MlflowClient, run_id: str, **given: Any) -> Any:
        sent[0] += len(given["metrics"])
        return real(client, run_id, **given)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    first = tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    assert sent[0] == len(one.data.metrics) < first.metrics / 100


def test_a_kill_in_between_leaves_what_the_next_sync_completes(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    long_series(plan, run)
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tracking.sync(plan, run)
    written = len(tables(run)[0])
    assert written > 1800
    tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    assert len(tables(run)[0]) == written + len(one.data.metrics)
    history = client_of(run).get_metric_history(one.info.run_id, "train/loss")
    assert len({point.step for point in history}) == len(history) == 607
    assert one.data.metrics["train/loss"] == 1 / 699


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_table_that_is_not_known_and_few_points_are_left_to_mlflow(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    points = [Point("train/loss", step, 0.5, 1) for step in range(200)]
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table metrics (key, value, timestamp, run_uuid, step, is_nan, unit not null)")
    assert rows.write_all_but_last(database, "r", points) == points
    assert rows.write_all_but_last(tmp_path / "none.db", "r", points[: rows.FEWEST]) == points[: rows.FEWEST]
