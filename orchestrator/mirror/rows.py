"""What a run is sent, as rows of a sqlite store: MLflow's own way makes an object of each, which takes many times as long.

The run itself is made by MLflow. The rest is written only while its tables are those that are known here; a server, another database and
another MLflow get the same by requests.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.mirror import linked_rows
from orchestrator.mirror.entries import Input, Model, Point, Scored

#: Seconds that a reader, such as the UI, may hold the file.
_PATIENCE = 20.0
#: The tables, as MLflow 3 makes them; a test compares with its API.
_TABLES: Mapping[str, frozenset[str]] = {
    **linked_rows.TABLES,
    "metrics": frozenset({"key", "value", "timestamp", "run_uuid", "step", "is_nan"}),
    "latest_metrics": frozenset({"key", "value", "timestamp", "run_uuid", "step", "is_nan"}),
    "params": frozenset({"key", "value", "run_uuid"}),
    "tags": frozenset({"key", "value", "run_uuid"}),
    "logged_model_metrics": frozenset(
        {
            *("model_id", "metric_name", "metric_timestamp_ms", "metric_step", "metric_value"),
            *("experiment_id", "run_id", "dataset_uuid", "dataset_name", "dataset_digest"),
        }
    ),
}
#: Of a run, what is written to.
_RUN = frozenset({"run_uuid", "status", "end_time", "name"})
_STATUS = "update runs set status = ?, end_time = coalesce(?, end_time), name = coalesce(?, name) where run_uuid = ?"
_POINT = "insert or ignore into metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)"
# What a page shows of a series is its last point, chosen as MLflow chooses it.
_LAST = """
insert into latest_metrics (key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, 0)
on conflict (key, run_uuid) do update set value = excluded.value, timestamp = excluded.timestamp, step = excluded.step
where (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)
"""
_PARAM = "insert or ignore into params (key, value, run_uuid) values (?, ?, ?)"
_TAG = "insert or replace into tags (key, value, run_uuid) values (?, ?, ?)"
_OF_MODEL = """
insert or ignore into logged_model_metrics
(model_id, metric_name, metric_timestamp_ms, metric_step, metric_value, experiment_id, run_id, dataset_name, dataset_digest)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a run is sent at once; of what it has already, nothing is written again but its status and tags."""

    status: str
    #: Milliseconds since the epoch; None while the job of the run has not ended.
    ended: int | None
    points: Sequence[Point]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: Sequence[Input] = ()
    #: A model that the run does not have yet, and where the experiment keeps its artifacts.
    new_model: Model | None = None
    artifacts: str = ""
    #: The id of the model that the points `of_model` are of too; empty for none.
    model: str = ""
    of_model: Sequence[Point] = ()
    #: Key of a point -> the data set that it was measured on.
    scored: Mapping[str, Scored] = field(default_factory=dict)


def opened(database: Path) -> sqlite3.Connection:
    """Return a connection of our own, as MLflow's own are in a sync: the whole file is made durable when a sync ends."""
    connection = sqlite3.connect(database, timeout=_PATIENCE)
    connection.execute("pragma synchronous=off")
    return connection


def are_known(database: Path) -> bool:
    """Tell whether a sqlite store has the tables that are written to, and no other columns."""
    with closing(opened(database)) as connection:
        return all(_columns(connection, name) == columns for name, columns in _TABLES.items()) and _columns(connection, "runs") >= _RUN


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in connection.execute(f"pragma table_info({table})")}


def write(database: Path, experiment: str, identity: str, batch: Batch) -> None:
    """Write what a run is sent in one transaction. Raises sqlite3.Error when the file cannot be written."""
    with closing(opened(database)) as connection, connection:
        number = int(experiment)
        connection.execute(_STATUS, (batch.status, batch.ended, batch.tags.get("mlflow.runName"), identity))
        connection.executemany(_POINT, _laid(batch.points, identity))
        connection.executemany(_LAST, _laid(_last(batch.points), identity))
        connection.executemany(_PARAM, ((key, value, identity) for key, value in batch.params.items()))
        linked_rows.write_inputs(connection, number, identity, batch.inputs)
        if batch.new_model is not None:
            linked_rows.write_model(connection, number, identity, batch.model, batch.new_model, batch.artifacts)
        connection.executemany(_OF_MODEL, _of_model(batch, number, identity))
        connection.executemany(_TAG, ((key, value, identity) for key, value in batch.tags.items()))


def _laid(points: Iterable[Point], identity: str) -> Iterator[tuple[str, float, int, str, int]]:
    return ((point.key, point.value, point.time, identity, point.step) for point in points)


def _of_model(batch: Batch, experiment: int, identity: str) -> Iterator[tuple[str | float | int | None, ...]]:
    for point in batch.of_model:
        scored = batch.scored.get(point.key)
        on = (scored.name, scored.digest) if scored else (None, None)
        yield (batch.model, point.key, point.time, point.step, point.value, experiment, identity, *on)


def _last(points: Iterable[Point]) -> Iterable[Point]:
    found: dict[str, Point] = {}
    for point in points:
        known = found.get(point.key)
        if known is None or (point.step, point.time, point.value) > (known.step, known.time, known.value):
            found[point.key] = point
    return found.values()
