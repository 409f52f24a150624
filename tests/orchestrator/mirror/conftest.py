"""A plan to play and a run root with a migrated, empty database."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import seed_database
from tests.orchestrator.mirror.played import plan_of


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = RunPaths(tmp_path_factory.mktemp("template"))
    tracking.prepare(run, "unused")
    return run.mlflow / "mlflow.db"


@pytest.fixture
def run(tmp_path: Path, template: Path) -> RunPaths:
    found = RunPaths(tmp_path / "run")
    seed_database(found, template)
    return found


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path)
