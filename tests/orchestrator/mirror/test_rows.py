"""Points that are written into a sqlite file as rows: the same store as MLflow itself would have made."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from jobs.paths import RunPaths
from jobs.stages import Stopped
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.mirror import rows
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, export, runs_of, seed_database
from tests.orchestrator.mirror.played import Player, trains, write_line


def long_series(plan: Plan, run: RunPaths, steps: int = 600) -> None:
    """Play a job whose series are long, and go back once, as a resumed attempt does."""
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    for step in [*range(100, 100 + steps), 90]:
        write_line(run, job, 1, {"train/loss": 1 / step, "val/loss": -3.5 * step, "train/lr": 1e-3}, step=step)


def test_rows_are_those_that_mlflow_writes(
    plan: Plan, run: RunPaths, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync a sweep twice, once while parts of it have not ended, into a file as rows and into another by `log_batch`."""
    long_series(plan, run)
    player = Player(run=run)
    stopped = trains(plan)[1]
    player.troubles.raises[stopped.job_id], player.troubles.after[stopped.job_id] = Stopped(), 1
    player.play([stopped])
    other, first = RunPaths(tmp_path / "other"), None
    for attempt in range(2):
        shutil.copytree(run.root, other.root, ignore=shutil.ignore_patterns("mlflow"), dirs_exist_ok=True)
        if not attempt:
            seed_database(other, template)
        first = tracking.sync(plan, run)
        with monkeypatch.context() as patched:
            patched.setattr(rows, "are_known", lambda database: False)
            assert replace(tracking.sync(plan, other), experiment=first.experiment) == first
        assert tables(run) == tables(other)
        assert export(run, "play") == export(other, "play")
        player.troubles.raises.clear()
        player.play(plan.jobs)
    assert first is not None and first.metrics > 100
    assert tracking.sync(plan, run) == replace(first, created=0, updated=0, replaced=0, removed=0, metrics=0)


def tables(run: RunPaths) -> list[list[Any]]:
    """Return all rows of the tables that are written to, as they lie in the file, with names in the place of what is drawn."""
    with closing(sqlite3.connect(run.mlflow / "mlflow.db")) as connection:
        names = dict(connection.execute("select run_uuid, name from runs").fetchall())
        names |= dict(connection.execute("select dataset_uuid, name || digest from datasets").fetchall())
        names |= dict(connection.execute("select model_id, name from logged_models").fetchall())
        edges = connection.execute("select input_uuid, source_id, destination_id from inputs").fetchall()
        names |= {own: f"{names[source]} -> {names[destination]}" for own, source, destination in edges}
        return [
            sorted(
                ([names.get(value, value) for value in row] for row in connection.execute(f"select {columns} from {table}")),
                key=str,
            )
            for table, columns in _WRITTEN.items()
        ]


_WRITTEN = {
    **dict.fromkeys(("metrics", "latest_metrics"), "key, value, timestamp, step, is_nan, run_uuid"),
    **dict.fromkeys(("params", "tags"), "key, value, run_uuid"),
    "logged_model_metrics": "*",
    "logged_models": "model_id, experiment_id, name, status, lifecycle_stage, model_type, source_run_id, status_message",
    "logged_model_params": "*",
    "logged_model_tags": "*",
    "datasets": "experiment_id, name, digest, dataset_source_type, dataset_source, dataset_schema, dataset_profile",
    "inputs": "source_type, source_id, destination_type, destination_id, step",
    "input_tags": "input_uuid, name, value",
    "runs": "name, status, start_time, end_time, lifecycle_stage",
}


def test_no_value_becomes_an_object(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    Player(run=run).play(plan.jobs)
    monkeypatch.setattr(MlflowClient, "log_batch", interrupted)
    assert tracking.sync(plan, run).metrics > 100


def test_a_kill_in_between_leaves_what_the_next_sync_completes(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    long_series(plan, run)
    with monkeypatch.context() as patched:
        patched.setattr(rows, "_TAG", "no statement")
        with pytest.raises(TrackingError, match='near "no"'):
            tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    assert (one.info.status, one.data.metrics, one.data.params) == ("RUNNING", {}, {}), "all of it or none"
    tracking.sync(plan, run)
    (one,) = runs_of(run, "play").values()
    history = client_of(run).get_metric_history(one.info.run_id, "train/loss")
    assert len({point.step for point in history}) == len(history) == 607
    assert (one.info.status, one.data.metrics["train/loss"]) == ("FINISHED", 1 / 699)


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_tables_that_are_others_are_left_to_mlflow(run: RunPaths) -> None:
    database = run.mlflow / "mlflow.db"
    assert rows.are_known(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("alter table latest_metrics add column unit text")
    assert not rows.are_known(database)


def test_what_is_shown_of_a_series_is_chosen_as_mlflow_chooses(plan: Plan, run: RunPaths) -> None:
    job = trains(plan, "pretrain")[0]
    Player(run=run).play([job])
    tracking.sync(plan, run)
    for step, value in ((50, 5.0), (40, 4.0)):
        write_line(run, job, 1, {"train/loss": value}, step=step)
        assert tracking.sync(plan, run).metrics == 1
    (one,) = runs_of(run, "play").values()
    assert one.data.metrics["train/loss"] == 5.0
