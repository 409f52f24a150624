"""Which runs are ours, read from a file as MLflow's own search finds them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from mlflow.entities import ViewType

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.mirror.found import Found, found_in_file, found_of, without_twins
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of
from tests.orchestrator.mirror.played import Player


def test_a_file_tells_what_mlflow_tells(plan: Plan, run: RunPaths) -> None:
    Player(run=run).play(job for job in plan.jobs if job.phase == "pretrain")
    experiment = tracking.sync(plan, run).experiment
    client = client_of(run)
    client.create_run(experiment, tags={"job": "somebody's own"})
    client.delete_run(client.search_runs([experiment])[1].info.run_id)
    runs = client.search_runs([experiment], run_view_type=ViewType.ALL)
    told = sorted((replace(one, run=None) for one in found_of(runs)), key=lambda one: one.identity)
    read = found_in_file(run.mlflow / "mlflow.db", experiment)
    assert len(told) == 2
    assert read is not None
    assert sorted(read, key=lambda one: one.identity) == told


def test_a_file_with_other_tables_is_left_to_mlflow(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table runs (id text)")
    assert found_in_file(tmp_path / "other.db", "1") is None


def test_of_several_runs_of_a_job_all_choose_the_same() -> None:
    runs = [
        Found(identity=identity, key=key, digest="", is_deleted=deleted, started=started)
        for identity, key, deleted, started in (("a", "x", True, 1), ("c", "x", False, 2), ("b", "x", False, 2), ("d", "y", True, 1))
    ]
    for order in (runs, runs[::-1]):
        known, spare = without_twins(order)
        assert {key: one.identity for key, one in known.items()} == {"x": "b", "y": "d"}
        assert sorted(one.identity for one in spare) == ["a", "c"]
