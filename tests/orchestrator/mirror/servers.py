"""MLflow servers and PostgreSQL for tests: real ones, on loopback, in a temporary folder, ended with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.mirror import ui as mlflow_ui
from orchestrator.mirror.stores import QUIET
from orchestrator.mirror.ui import UiCommand

_PATIENCE = 60.0
#: A server makes its database first, and imports all of MLflow in each of its workers.
_SERVER_PATIENCE = 600.0
#: Where Debian keeps what its PATH leaves out.
_DEBIAN = "/usr/lib/postgresql"


def free_port() -> int:
    """Return a port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, store: str, *, workers: int = 2, port: int = 0) -> Iterator[str]:
    """Run an MLflow server over a store, as a group runs one: it hands artifacts on. Yields its address.

    `port`: where a server is expected; a free one without it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
    words += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
    environment = {**QUIET, "MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with answering(UiCommand(arguments=tuple(words), environment=environment, folder=folder, address=f"http://127.0.0.1:{port}")) as found:
        yield found.address


@contextmanager
def answering(command: UiCommand) -> Iterator[UiCommand]:
    """Run a server until it answers, and end it with the test."""
    process = mlflow_ui.start(command)
    try:
        mlflow_ui.wait_until_it_answers(process, command, _SERVER_PATIENCE)
        yield command
    finally:
        mlflow_ui.stop(process)


def postgres_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL of this machine; None when there is none."""
    found = sorted(Path(_DEBIAN).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    where = shutil.which("initdb")
    return Path(where).parent if where else None


class Postgres:
    """A PostgreSQL of its own, which does not wait for the disk."""

    def __init__(self, port: int) -> None:
        self._port = port

    def database(self, name: str) -> str:
        """Make an empty database and return its URI."""
        import psycopg

        with psycopg.connect(host="127.0.0.1", port=self._port, user="postgres", autocommit=True) as connection:
            connection.execute(f'create database "{name}"'.encode())
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/{name}"

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(host="127.0.0.1", port=self._port, user="postgres", connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL in a temporary folder; it refuses to be root, so that root runs it as nobody."""
    programs = postgres_programs()
    assert programs is not None
    # Not in pytest's folder, which is for its owner only.
    folder = Path(tempfile.mkdtemp(prefix="orchestrate-postgres-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
        data, port = folder / "data", free_port()
        words = ["initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", str(data)]
        subprocess.run(_as_nobody(programs, words), check=True, cwd=folder, capture_output=True)
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off", "max_connections": 200}
        words = ["postgres", "-D", str(data), *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_as_nobody(programs, words), cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        found, until = Postgres(port), time.monotonic() + _PATIENCE
        while not found.answers():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        yield found
    finally:
        if process is not None:
            # Ends it without waiting for its clients.
            process.send_signal(signal.SIGINT)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _as_nobody(programs: Path, words: Sequence[str]) -> list[str]:
    command = [str(programs / words[0]), *words[1:]]
    if os.geteuid() != 0:
        return command
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", *command]
