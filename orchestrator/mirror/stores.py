"""Where a mirror is kept: the URI of a store, its file and its lock, and what MLflow is told before it is imported."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jobs.paths import RunPaths
from orchestrator.errors import TrackingError

LOCK_TIMEOUT = 900.0
#: A server that is down is told within seconds, not minutes; what is set already stands.
PATIENCE: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
#: Keeps MLflow from calling home and from printing links; what it starts inherits it.
QUIET: Mapping[str, str] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def default_uri(run: RunPaths) -> str:
    """Return the tracking URI of a run root: one sqlite file beside the jobs."""
    return f"sqlite:///{(run.mlflow / 'mlflow.db').resolve()}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a sqlite URI; None for every other store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]).resolve() if uri.startswith("sqlite:///") else None


def is_server(store: str) -> bool:
    """Tell whether a store is a server, which has its own page and its own place for artifacts."""
    return store.startswith(("http://", "https://", "databricks"))


def artifact_location(run: RunPaths, experiment: str, uri: str) -> str | None:
    """Return where artifacts go: beside a sqlite file, under the run root with another database, where a server says otherwise."""
    store = uri or default_uri(run)
    if is_server(store):
        return None
    database = sqlite_file(store)
    beside = run.mlflow.resolve() if database is None else database.parent
    return (beside / "artifacts" / experiment).as_uri()


def make_durable(file: Path) -> None:
    """Wait until a file is on the disk."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def look_into(file: Path) -> None:
    """Read a sqlite file's table of contents. Raises sqlite3.Error when it cannot be read: MLflow would try for minutes."""
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise


@contextmanager
def locked(run: RunPaths, uri: str) -> Iterator[None]:
    """Hold the lock of a store: beside its file, so that two run roots that share it wait for each other."""
    database = sqlite_file(uri or default_uri(run))
    file = run.mlflow / "lock" if database is None else database.with_name(f"{database.name}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=LOCK_TIMEOUT):
            yield
    except Timeout:
        raise TrackingError(
            f"{file}: another sync has held the lock for {LOCK_TIMEOUT:.0f} s; look for it with `fuser {file}` and end it"
        ) from None


def shown(store: str) -> str:
    """Return a store's URI without its password."""
    return re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:***@", store)
