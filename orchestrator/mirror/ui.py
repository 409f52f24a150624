"""The MLflow UI on what was synced: started as a process of its own, on loopback, without calling home."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from orchestrator.errors import TrackingError
from orchestrator.mirror.stores import QUIET, default_uri, is_server, sqlite_file
from orchestrator.mirror.views import CURVES, DRAWS, LINES, TAG

LOOPBACK = "127.0.0.1"
#: Importing MLflow and its server takes a while on a small machine.
START_TIMEOUT = 180.0
_POLL_EVERY = 0.2
#: So many runs' ids fit an address, and so many boxes a page.
_COMPARED = 100
#: What each view that `orchestrate ui` names beside the draws is called.
_FURTHER = {LINES: "draws as lines", CURVES: "curves"}
#: This machine is asked without a proxy, whatever the environment says.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class UiCommand:
    """How the UI is started: what is run, with which environment on top of this one's, and where."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    address: str


def serve(run: RunPaths, *, uri: str = "", port: int = 5000) -> UiCommand:
    """Return the command that shows a store, to this machine only.

    Raises TrackingError when nothing was synced yet, when the store is a server that has its own page, or when the port is taken.
    """
    store = uri or default_uri(run)
    if is_server(store):
        raise TrackingError(f"the MLflow of this cluster is a server: open {store} in a browser")
    database = sqlite_file(store)
    if database is not None and not database.exists():
        raise TrackingError(
            f"nothing was synced to {database} yet; type `orchestrate submit sweeps/quickstart.yaml`, or `orchestrate sync`"
        )
    if not _is_free(port):
        raise TrackingError(f"port {port} of this machine is in use; type `orchestrate ui --port {port + 1}`")
    folder = run.mlflow if database is None else database.parent
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    arguments += ["--default-artifact-root", (folder / "artifacts").as_uri(), "--no-serve-artifacts"]
    environment = {
        **QUIET,
        # Not an argument: a URI may hold a password, and arguments are for everybody to see.
        "MLFLOW_BACKEND_STORE_URI": store,
        # Jobs of MLflow's own (scoring of language models) would start more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
    }
    return UiCommand(
        arguments=tuple(arguments),
        environment=environment,
        folder=folder,
        address=f"http://{LOOPBACK}:{port}",
    )


def show(command: UiCommand, say: Callable[[str], None]) -> int:
    """Run the UI until it is interrupted, say where each sweep is once it answers, and return an exit code.

    Raises TrackingError when it does not come up.
    """
    process = start(command)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        wait_until_it_answers(process, command)
        for name, link in links(command).items():
            say(f"{name}: {link}")
            for what, further in further_links(command, name).items():
                say(f"  {what}: {further}")
        say(f"MLflow UI: {command.address} (Ctrl-C ends it)")
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(process)
        signal.signal(signal.SIGTERM, before)


def links(command: UiCommand) -> dict[str, str]:
    """Ask a UI that answers for its sweeps, and return the address of each, opened on its draws."""
    found = _ask(command, "experiments/search", max_results=100, filter="tags.`orch.sweep` LIKE '%'").get("experiments", [])
    return {one["name"]: f"{command.address}/{page(one['experiment_id'], DRAWS)}" for one in reversed(found)}


def further_links(command: UiCommand, name: str) -> dict[str, str]:
    """Return the addresses of a sweep's other views, and of the page where its chosen runs are compared, box plots among it."""
    known = {"max_results": 1, "filter": f"name = '{name}'"}
    experiment = _ask(command, "experiments/search", **known)["experiments"][0]
    tags, number = {tag["key"] for tag in experiment.get("tags", [])}, experiment["experiment_id"]
    found = {what: f"{command.address}/{page(number, view)}" for view, what in _FURTHER.items() if TAG + view in tags}
    asked = {"experiment_ids": [number], "filter": "tags.picked = 'true'", "max_results": _COMPARED + 1}
    runs = [one["info"]["run_id"] for one in _ask(command, "runs/search", **asked).get("runs", [])]
    if 1 < len(runs) <= _COMPARED:
        words = {"runs": json.dumps(runs), "experiments": json.dumps([number]), "workflowType": "machine_learning"}
        found["box plots (tab Box Plot)"] = f"{command.address}/#/compare-runs?{urllib.parse.urlencode(words)}"
    return found


def _ask(command: UiCommand, what: str, **query: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{command.address}/api/2.0/mlflow/{what}", data=json.dumps(query).encode(), headers={"Content-Type": "application/json"}
    )
    with _DIRECT.open(request, timeout=30) as answer:
        return json.load(answer)


def page(experiment: str, view: str) -> str:
    """Return the path of an experiment's page on one of its saved views (`views.DRAWS` as a table, the others as charts)."""
    mode = "" if view == DRAWS else "&compareRunsMode=CHART"
    return f"#/experiments/{experiment}/runs?workflowType=machine_learning{mode}&viewStateShareKey={view}"


def start(command: UiCommand) -> subprocess.Popen[bytes]:
    """Start the UI in a session of its own, so that all of it can be ended together; its log lies beside the store."""
    with (command.folder / "ui.log").open("wb") as log:
        return subprocess.Popen(
            command.arguments,
            env={**os.environ, **command.environment},
            cwd=command.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_it_answers(process: subprocess.Popen[bytes], command: UiCommand, patience: float = START_TIMEOUT) -> None:
    """Return when the UI answers. Raises TrackingError when its process ends before, or takes so many seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with _DIRECT.open(f"{command.address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_EVERY)
    raise TrackingError(f"the MLflow UI did not come up; its log is {command.folder / 'ui.log'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the UI and every process that it started."""
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
