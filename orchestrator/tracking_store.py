"""The store of MLflow: its database made once, a client that talks to it and to nobody else, and what is done when it does not answer,
and what it takes at once.

MLflow is imported when it is first used, here and in `tracking.py` alone.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.paths import RunPaths
from orchestrator.errors import TrackingError
from orchestrator.mirror.answers import PATIENCE, done_or_found_out, reach
from orchestrator.mirror.rows import Batch
from orchestrator.mirror.stores import (
    QUIET,
    artifact_location,
    default_uri,
    is_server,
    locked,
    locked_inside,
    look_into,
    made_at_once,
    make_durable,
    shown,
    sqlite_file,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Param, RunTag

_SHOWN = 300
#: What one `log_batch` carries: MLflow takes 1000 things together, of them 100 params and 100 tags.
METRICS_A_BATCH = 800
PARAMS_A_BATCH = 100
_Done = TypeVar("_Done")
_Item = TypeVar("_Item")


def experiment_of(client: MlflowClient, run: RunPaths, name: str, uri: str) -> Experiment:
    """Return an experiment by name, made or restored where need be. Raises TrackingError when a store was made in another place."""
    store = uri or default_uri(run)
    location = artifact_location(run, name, uri)
    found = surely(client, lambda: _found_or_made(client, name, location))
    if sqlite_file(store) is not None and found.artifact_location != location:
        raise TrackingError(
            f"the MLflow store {shown(store)} keeps artifacts under {found.artifact_location}, where it was made. It is only a mirror: "
            "delete it and type `orchestrate sync`"
        )
    return found


def _found_or_made(client: MlflowClient, name: str, location: str | None) -> Experiment:
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.get_experiment(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found


def surely(client: MlflowClient, act: Callable[[], _Done], look: Callable[[], object] | None = None) -> _Done:
    """Do something. At a server, where others do the same at the same time and an answer can be lost, it is looked for before it fails."""
    from mlflow.exceptions import MlflowException

    server = client.tracking_uri
    if not is_server(server):
        return act()
    return done_or_found_out(act, look or (lambda: reach_server(server)), (MlflowException, OSError))


def reach_server(store: str) -> None:
    """Raise OSError when a store is a server that nobody answers for."""
    if store.startswith(("http://", "https://")):
        reach(store)


def _client(run: RunPaths, uri: str) -> MlflowClient:
    """Return a client that talks to its store and to nobody else."""
    from mlflow import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    if not event.contains(Engine, "connect", _without_waiting):
        event.listen(Engine, "connect", _without_waiting)
    for name in ("alembic", "mlflow", "mlflow.store.db.utils"):
        # What it logs as an error, with a traceback, it also raises, and that becomes a sentence.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    store = uri or default_uri(run)
    database = sqlite_file(store)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
        look_into(database)
        if not database.exists():
            made_at_once(database, _make_database)
    return MlflowClient(tracking_uri=store, registry_uri=store)


def _make_database(file: Path) -> None:
    """Let MLflow make its tables in a file that does not exist yet."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(f"sqlite:///{file}", file.parent.as_uri())
    store.engine.dispose()


def _without_waiting(connection: Any, _record: object) -> None:
    """Let sqlite not wait for the disk at each of a run's eight commits: half the time of a sync, for a file that can be made again.

    A kill loses nothing by it. A power cut during a sync can; the file is made durable when the sync ends.
    """
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def answering(run: RunPaths, uri: str) -> Iterator[MlflowClient]:
    """Hold the lock of a store and give a client of it. Raises TrackingError when the store does not do what it is asked."""
    os.environ.update(QUIET)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    store = uri or default_uri(run)
    with locked(run, uri):
        try:
            reach_server(store)
            with locked_inside(store):
                yield _client(run, uri)
            database = sqlite_file(store)
            if database is not None:
                make_durable(database)
        except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0][:_SHOWN]
            remedy = (
                "start it, or take `mlflow:` out of the cluster config"
                if is_server(store)
                else "it is only a mirror: name another under `mlflow:` in the cluster config, or move it away and type `orchestrate sync`"
            )
            raise TrackingError(f"the MLflow store {shown(store)} cannot be used ({said}); {remedy}") from error


def in_parts(batch: Batch) -> Iterator[tuple[list[Metric], list[Param], list[RunTag]]]:
    """Yield what a run is sent in parts that MLflow takes, the tags with the last."""
    from mlflow.entities import Metric, Param, RunTag

    own = {point.key for point in batch.of_model}
    metrics = [Metric(point.key, point.value, point.time, point.step) for point in batch.points if point.key not in own]
    for point in batch.of_model:
        name, digest = batch.scored.get(point.key, (None, None))
        metrics.append(
            Metric(point.key, point.value, point.time, point.step, model_id=batch.model, dataset_name=name, dataset_digest=digest)
        )
    params = [Param(key, value) for key, value in batch.params.items()]
    parts = list(zip_longest(_chunks(metrics, METRICS_A_BATCH), _chunks(params, PARAMS_A_BATCH), fillvalue=())) or [((), ())]
    for index, (some_metrics, some_params) in enumerate(parts):
        tags = batch.tags if index == len(parts) - 1 else {}
        yield list(some_metrics), list(some_params), [RunTag(key, value) for key, value in tags.items()]


def _chunks(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
