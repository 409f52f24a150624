"""MLflow's own server, real but for its answers: it carries out what it is asked, and loses the answers that a test names."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.mirror.stores import QUIET

#: What a run says, in MLflow's tables.
_SAID = (
    "key, value from tags where run_uuid = ?",
    "key, value from params where run_uuid = ?",
    "key, step, timestamp, value from metrics where run_uuid = ?",
    "d.name, d.digest, t.name, t.value from inputs i join datasets d on i.source_id = d.dataset_uuid "
    "left join input_tags t on t.input_uuid = i.input_uuid where i.destination_id = ?",
    "name, status, model_type from logged_models where lifecycle_stage = 'active' and source_run_id = ?",
)
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True, slots=True)
class LosingServer:
    """An MLflow server on a sqlite file in a process of its own."""

    address: str
    folder: Path
    #: Which of the coming requests is the first whose answer is lost, from 1; none is lost at 0.
    first: Any = field(default_factory=lambda: _FORK.Value("i", 0))
    #: How many answers are lost from there on.
    count: Any = field(default_factory=lambda: _FORK.Value("i", 1))
    #: Whether the request is carried out only when `release` is set, and not at once.
    hold: Any = field(default_factory=lambda: _FORK.Value("b", 0))
    release: Any = field(default_factory=_FORK.Event)

    @property
    def log(self) -> Path:
        return self.folder / "asked"

    def keep(self, folder: Path) -> None:
        """Copy what it holds into a folder."""
        shutil.copytree(self.folder / "artifacts", folder / "artifacts")
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as store, closing(sqlite3.connect(folder / "mlflow.db")) as copy:
            store.backup(copy)

    def restore(self, folder: Path) -> None:
        """Let it hold what was kept."""
        shutil.rmtree(self.folder / "artifacts")
        shutil.copytree(folder / "artifacts", self.folder / "artifacts")
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as store, closing(sqlite3.connect(folder / "mlflow.db")) as copy:
            copy.backup(store)

    def content(self) -> dict[str, Any]:
        """Return all that the active runs say, by name, and the experiments' tags, from the server's own database and files."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as store:
            found: dict[str, Any] = {
                "experiments": sorted(store.execute("select name, key, value from experiment_tags natural join experiments"))
            }
            rows = store.execute(
                "select run_uuid, name, status, start_time, end_time, artifact_uri from runs where lifecycle_stage = 'active'"
            )
            for identity, name, *said, place in rows.fetchall():
                assert name not in found, "a run stands there twice"
                files = self.folder / "artifacts" / str(place).removeprefix("mlflow-artifacts:/")
                found[name] = [
                    said,
                    *(sorted(store.execute(f"select {what}", (identity,))) for what in _SAID),
                    {path.relative_to(files).as_posix(): path.read_bytes() for path in sorted(files.rglob("*")) if path.is_file()},
                ]
            return found

    def count_runs(self) -> int:
        """Return how many runs there are, with those that are deleted."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as store:
            return int(store.execute("select count(*) from runs").fetchone()[0])

    def lose(self, first: int, count: int = 1, *, hold: bool = False) -> None:
        """Count requests anew, and lose answers from `first` on; a held request is carried out at `release`."""
        self.log.write_text("")
        self.release.clear()
        self.count.value, self.hold.value, self.first.value = count, hold, first

    def asked(self) -> list[str]:
        """Return what was asked since `lose`, as methods and the ends of paths."""
        return self.log.read_text().splitlines()


@contextmanager
def losing_server(folder: Path, template: Path) -> Iterator[LosingServer]:
    """Run one over a copy of an empty, migrated database."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, folder / "mlflow.db")
    listening = socket.create_server(("127.0.0.1", 0))
    server = LosingServer(f"http://127.0.0.1:{listening.getsockname()[1]}", folder)
    server.lose(0)
    process = _FORK.Process(target=_serve, args=(server, listening.fileno(), folder), daemon=True)
    process.start()
    listening.close()
    try:
        yield server
    finally:
        process.terminate()
        process.join()


def _serve(server: LosingServer, descriptor: int, folder: Path) -> None:
    from mlflow.server import constants

    os.environ.update(QUIET)
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = (folder / "artifacts").as_uri()
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.server import app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    lock, asked = threading.Lock(), [0, 0]

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/health":
            return app(environ, start_response)
        with lock:
            # `lose` empties the log, and counting begins anew.
            asked[0] = asked[0] + 1 if server.log.stat().st_size else 1
            with server.log.open("a") as log:
                log.write(f"{environ['REQUEST_METHOD']} {_end(path)}\n")
            first = server.first.value
            loses = first > 0 and first <= asked[0] < first + server.count.value
        if not loses:
            return app(environ, start_response)
        if server.hold.value:
            environ["wsgi.input"] = _Kept(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
            server.release.wait()
        b"".join(app(environ, lambda *given: lambda data: None))
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []

    make_server("127.0.0.1", 0, answer, threaded=True, fd=descriptor).serve_forever()


class _Kept:
    """What a request brought, to be read when it is carried out."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int = -1) -> bytes:
        size = len(self._content) if size < 0 else size
        found, self._content = self._content[:size], self._content[size:]
        return found


def _end(path: str) -> str:
    """Return what a path asks for, without what is different each time."""
    if "mlflow-artifacts" in path:
        return "artifacts"
    words = [word for word in path.split("/") if not re.fullmatch(r"m-[0-9a-f]+|[0-9a-f]{32}", word)]
    return "/".join(words[-2:])
