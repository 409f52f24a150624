"""The store behind the MLflow mirror: made once, silent, rebuilt, shared, and what is said when it cannot be used."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.mirror.stores import default_uri, shown
from orchestrator.model import Plan
from orchestrator.plans import write_plan
from tests.orchestrator.mirror.mirrored import client_of, export, rebuilt, seed_database
from tests.orchestrator.mirror.played import Player

# --- the store ---------------------------------------------------------------------------------------------------------------------------


def _prepare_at_once(root: str, barrier: Any, answers: Any) -> None:
    barrier.wait()
    try:
        answers.put(tracking.prepare(RunPaths(Path(root)), "raced"))
    except BaseException as error:
        answers.put(repr(error))


def test_eight_processes_at_once_make_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_prepare_at_once, args=(str(tmp_path), barrier, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(found)) == 1
    assert found[0].isdigit()
    assert [one.name for one in client_of(RunPaths(tmp_path)).search_experiments()] == ["raced", "Default"]


_SILENT = """
import socket, sys
from pathlib import Path
asked = []
def refuse(self, address, *rest):
    asked.append(address)
    raise OSError("no network")
socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *given, **named: refuse(None, given)
from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.arms import arm_labels
from orchestrator.plans import read_plan
synced = tracking.sync(read_plan(Path(sys.argv[1])), RunPaths(Path(sys.argv[2])))
Path(sys.argv[3]).write_text(repr((synced.created, asked)))
"""


def test_a_deleted_database_comes_back_silently_and_without_a_network(plan: Plan, run: RunPaths, tmp_path: Path) -> None:
    Player(run=run).play(plan.jobs)
    tracking.sync(plan, run)
    before = export(run, "play")
    shutil.rmtree(run.mlflow)
    write_plan(tmp_path / "plan.json", plan)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DO_NOT_TRACK", "CI", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", _SILENT, str(tmp_path / "plan.json"), str(run.root), str(tmp_path / "answer")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(tracking.__file__).parents[1],
        env={**environment, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "answer").read_text() == "(11, [])"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "mlruns"))] == []
    fresh = RunPaths(tmp_path / "looked" / "run")
    shutil.copytree(run.root, fresh.root)
    assert export(fresh, "play") == before


def test_a_store_that_was_moved_says_what_to_do(plan: Plan, run: RunPaths, tmp_path: Path) -> None:
    Player(run=run).play(plan.jobs[:1])
    tracking.sync(plan, run)
    shutil.move(run.root, tmp_path / "elsewhere")
    with pytest.raises(TrackingError, match=r"keeps artifacts under .*; delete it and type|delete it and type `orchestrate sync`"):
        tracking.sync(plan, RunPaths(tmp_path / "elsewhere"))


def test_a_store_that_cannot_be_used_says_what_to_do(plan: Plan, run: RunPaths, tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_text("this is no database")
    with pytest.raises(TrackingError, match="only a mirror"):
        tracking.sync(plan, run, uri=f"sqlite:///{tmp_path}/broken.db")


def test_a_server_that_is_down_says_what_to_do(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(TrackingError, match=rf"the MLflow store {address} cannot be used \(.*\); start it, or take `mlflow:` out of"):
            tracking.sync(plan, run, uri=address)


def test_a_run_root_may_have_an_awkward_name(plan: Plan, template: Path, tmp_path: Path) -> None:
    run = RunPaths(tmp_path / "it's a #1 100% run\u00e9")
    seed_database(run, template)
    Player(run=run).play(plan.jobs[:1])
    assert tracking.sync(plan, run).created == 1
    assert next(iter(export(run, "play").values()))["artifacts"]["job.json"]


def test_run_roots_can_share_a_store(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    """A node without a network keeps its own run root; its files go to the store of another."""
    away = RunPaths(tmp_path / "away")
    Player(run=away).play(plan.jobs)
    assert tracking.sync(plan, away, uri=default_uri(run)).created == 11
    assert not away.mlflow.exists()
    assert export(run, "play") == rebuilt(away, plan, tmp_path / "again", template)


def test_run_roots_that_share_a_store_leave_each_other_alone(plan: Plan, run: RunPaths, template: Path, tmp_path: Path) -> None:
    """The same sweep runs on two clusters, a half of it on each."""
    other = RunPaths(tmp_path / "other")
    half = [job for job in plan.jobs if job.labels.get("after") == "none"]
    Player(run=run).play(half)
    Player(run=other).play(job for job in plan.jobs if job not in half)
    store = default_uri(run)
    for root, created in ((run, 3), (other, 8), (run, 0), (other, 0)):
        synced = tracking.sync(plan, root, uri=store)
        assert (synced.created, synced.updated, synced.removed) == (created, 0, 0)
    whole = RunPaths(tmp_path / "whole")
    shutil.copytree(other.root, whole.root)
    shutil.copytree(run.root / "jobs", whole.root / "jobs", dirs_exist_ok=True)
    assert export(run, "play") == rebuilt(whole, plan, tmp_path / "again", template)


def test_a_password_is_not_shown() -> None:
    assert shown("postgresql+psycopg2://me:secret@db:5432/x") == "postgresql+psycopg2://me:***@db:5432/x"
    for store in ("sqlite:////a/b.db", "http://127.0.0.1:5000", "postgresql://me@db/x"):
        assert shown(store) == store


def test_a_sample_never_lands_among_real_runs(plan: Plan) -> None:
    assert tracking.experiment_name(plan) == "play"
    assert tracking.experiment_name(replace(plan, sample=True)) == "play (sample)"
