"""Where a mirror is kept: the URI of a store, its file and its lock, and what MLflow is told before it is imported."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jobs.paths import RunPaths
from orchestrator.errors import TrackingError

LOCK_TIMEOUT = 900.0
#: The number of the lock in a database that has locks of its own: the first bytes of the sha256 of "cxr-orchestrator mirror".
DATABASE_LOCK = 0x2D63_9C1E_71B4
#: What a database is asked for that lock, by SQLAlchemy's name of its dialect. It goes with its connection: a kill leaves none behind.
_ASKED = {
    "postgresql": (f"SET lock_timeout = '{LOCK_TIMEOUT:.0f}s'", f"SELECT pg_advisory_lock({DATABASE_LOCK})"),
    "mysql": (f"SELECT GET_LOCK('cxr-orchestrator-{DATABASE_LOCK}', {LOCK_TIMEOUT:.0f})",),
}
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


def made_at_once(file: Path, make: Callable[[Path], None]) -> None:
    """Let a database be made under another name and give it its own when it is whole: a kill in between leaves no half of one."""
    unfinished = file.with_name(f"{file.name}.new")
    for left in file.parent.glob(f"{unfinished.name}*"):
        left.unlink()
    make(unfinished)
    make_durable(unfinished)
    unfinished.replace(file)
    make_durable(file.parent)


def make_durable(file: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def look_into(file: Path) -> None:
    """Read a sqlite file's table of contents. Raises sqlite3.Error when it cannot be read: MLflow would try for minutes.

    The file is opened for writing: what a sync that was killed has left half done is taken back by whoever opens it so.
    """
    if not file.exists():
        return
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as connection:
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


@contextmanager
def locked_inside(store: str) -> Iterator[None]:
    """Hold a database's own lock, where it has one: run roots that share it cannot see each other's files.

    Raises SQLAlchemyError when the database does not answer, or another sync has held the lock for too long.
    """
    if is_server(store) or sqlite_file(store) is not None:
        yield
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(store, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for question in _ASKED.get(engine.dialect.name, ()):
            connection.execute(text(question))
        yield


def shown(store: str) -> str:
    """Return a store's URI without its password."""
    return re.sub(r"(?<=://)([^:/@]*):[^@]*@", r"\1:***@", store)
