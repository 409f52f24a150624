"""Data sets and models of a run as rows of a sqlite store, as MLflow itself would write them (`rows.py` says when)."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence

from orchestrator.mirror.entries import Input, Model
from orchestrator.mirror.found import DIGEST, KIND
from orchestrator.mirror.sent import CONTEXT

#: What a source of a data set is that no address leads to, and what a model is whose making has ended, in MLflow's words.
SOURCE_KIND, _READY = "code", 2
#: The tables, as MLflow 3 makes them.
TABLES: Mapping[str, frozenset[str]] = {
    "datasets": frozenset(
        {
            *("dataset_uuid", "experiment_id", "name", "digest"),
            *("dataset_source_type", "dataset_source", "dataset_schema", "dataset_profile"),
        }
    ),
    "inputs": frozenset({"input_uuid", "source_type", "source_id", "destination_type", "destination_id", "step"}),
    "input_tags": frozenset({"input_uuid", "name", "value"}),
    "logged_models": frozenset(
        {
            *("model_id", "experiment_id", "name", "artifact_location", "creation_timestamp_ms", "last_updated_timestamp_ms"),
            *("status", "lifecycle_stage", "model_type", "source_run_id", "status_message"),
        }
    ),
    "logged_model_params": frozenset({"model_id", "experiment_id", "param_key", "param_value"}),
    "logged_model_tags": frozenset({"model_id", "experiment_id", "tag_key", "tag_value"}),
}
_DATA_SET = f"""
insert or ignore into datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source, dataset_schema,
dataset_profile) values (:id, :experiment, :name, :digest, '{SOURCE_KIND}', :source, :schema, :profile)
"""
_INPUT = """
insert or ignore into inputs (input_uuid, source_type, source_id, destination_type, destination_id, step)
select :id, 'DATASET', dataset_uuid, 'RUN', :run, 0 from datasets where experiment_id = :experiment and name = :name and digest = :digest
"""
_INPUT_TAG = "insert into input_tags (input_uuid, name, value) values (?, ?, ?)"
_MODEL = f"""
insert into logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms, last_updated_timestamp_ms, status,
lifecycle_stage, model_type, source_run_id) values (:id, :experiment, :name, :place, :now, :now, {_READY}, 'active', :kind, :run)
"""
_MODEL_PARAM = "insert into logged_model_params (model_id, experiment_id, param_key, param_value) values (?, ?, ?, ?)"
_MODEL_TAG = "insert into logged_model_tags (model_id, experiment_id, tag_key, tag_value) values (?, ?, ?, ?)"
_OUTPUT = "insert into inputs (input_uuid, source_type, source_id, destination_type, destination_id, step) values (?, ?, ?, ?, ?, ?)"


def write_inputs(connection: sqlite3.Connection, experiment: int, identity: str, inputs: Sequence[Input]) -> None:
    """Give a run data sets, each of which is one row of the experiment. What is there already is not written again."""
    for one in inputs:
        said = {"experiment": experiment, "name": one.name, "digest": one.digest, "run": identity}
        about = {"source": one.source, "schema": one.schema or None, "profile": one.profile}
        connection.execute(_DATA_SET, {**said, **about, "id": uuid.uuid4().hex})
        own = uuid.uuid4().hex
        if connection.execute(_INPUT, {**said, "id": own}).rowcount == 1:
            connection.executemany(_INPUT_TAG, [(own, CONTEXT, one.context), (own, KIND, "data")])


def new_model_id() -> str:
    """Return an id for a model, as MLflow draws it."""
    return f"m-{uuid.uuid4().hex}"


def write_model(connection: sqlite3.Connection, experiment: int, identity: str, model_id: str, model: Model, artifacts: str) -> None:
    """Give a run a model that it does not have; `artifacts` is where the experiment keeps its own."""
    place = f"{artifacts.rstrip('/')}/models/{model_id}/artifacts"
    about = {"id": model_id, "experiment": experiment, "name": model.name, "place": place, "kind": model.kind, "run": identity}
    connection.execute(_MODEL, {**about, "now": int(time.time() * 1000)})
    connection.executemany(_MODEL_PARAM, [(model_id, experiment, key, value) for key, value in model.params.items()])
    connection.executemany(_MODEL_TAG, [(model_id, experiment, key, value) for key, value in tags_of(model).items()])
    connection.execute(_OUTPUT, (uuid.uuid4().hex, "RUN_OUTPUT", identity, "MODEL_OUTPUT", model_id, model.step))


def tags_of(model: Model) -> dict[str, str]:
    """Return the tags of a model, with those by which a sync knows its own."""
    return {**model.tags, KIND: "model", DIGEST: model.digest()}
