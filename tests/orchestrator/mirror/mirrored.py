"""What an MLflow experiment holds, as plain values to compare, and a migrated database to start from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run, ViewType

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.mirror.stores import default_uri
from orchestrator.model import Plan


def client_of(run: RunPaths, uri: str = "") -> MlflowClient:
    """Return a client of a run root's own store, or of another."""
    return MlflowClient(tracking_uri=uri or default_uri(run))


def runs_of(run: RunPaths, experiment: str, view: int = ViewType.ACTIVE_ONLY, *, uri: str = "") -> dict[str, Run]:
    """Return the runs of an experiment by name."""
    client = client_of(run, uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], run_view_type=view)
    named = {str(one.info.run_name): one for one in runs}
    assert view != ViewType.ACTIVE_ONLY or len(named) == len(runs), "a run stands there twice"
    return named


def export(run: RunPaths, experiment: str, *, uri: str = "") -> dict[str, Any]:
    """Return all that an experiment's active runs say: params, tags, status, every metric point, artifacts with their content."""
    client = client_of(run, uri)
    return {name: _run(client, one) for name, one in sorted(runs_of(run, experiment, uri=uri).items())}


def _run(client: MlflowClient, one: Run) -> dict[str, Any]:
    identity = one.info.run_id
    folder = Path(client.download_artifacts(identity, ""))
    return {
        "status": one.info.status,
        "started": one.info.start_time,
        "ended": one.info.end_time,
        "params": one.data.params,
        "tags": {key: value for key, value in one.data.tags.items() if key != "git_sha"},
        "metrics": {
            key: [(point.step, point.timestamp, point.value) for point in client.get_metric_history(identity, key)]
            for key in sorted(one.data.metrics)
        },
        "inputs": [
            (dict(one.dataset), sorted((tag.key, tag.value) for tag in one.tags))
            for one in sorted(one.inputs.dataset_inputs if one.inputs else (), key=lambda each: (each.dataset.name, each.dataset.digest))
        ],
        "models": sorted(_model(found) for found in client.search_logged_models([one.info.experiment_id], f"source_run_id = '{identity}'")),
        "artifacts": {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()},
    }


def _model(one: LoggedModel) -> list[Any]:
    """Return all that a model says; what the UI shows of one that is half made is its status."""
    said = sorted(
        (found.key, found.value, found.timestamp, found.step, str(found.dataset_name), str(found.dataset_digest))
        for found in one.metrics or ()
    )
    return [one.name, one.model_type, str(one.status), sorted(one.tags.items()), sorted((one.params or {}).items()), said]


def seed_database(run: RunPaths, template: Path) -> None:
    """Put a migrated, empty database where a run root has its own: the migration takes seconds."""
    run.mlflow.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, run.mlflow / "mlflow.db")


def rebuilt(run: RunPaths, plan: Plan, folder: Path, template: Path) -> dict[str, Any]:
    """Return what a mirror holds that is made from nothing, from the same files."""
    shutil.copytree(run.root, folder, ignore=shutil.ignore_patterns("mlflow"))
    fresh = RunPaths(folder)
    seed_database(fresh, template)
    tracking.sync(plan, fresh)
    return export(fresh, plan.sweep)
