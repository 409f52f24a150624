"""What each node of a Ray allocation runs: its part of the Ray cluster and, on the first node, the experiment.

submissions/<sid>/ray-<job>-<restart>.json   where the first node's Ray is and its secret, readable by this user alone; it goes when it ends

The Ray of each start has a port, a secret and a temporary folder of its own: nobody joins it by accident, and it joins nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from jobs.spec import Json
from orchestrator import intents
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.backends.slurm.usage import Meter
from orchestrator.intents import Intent

TICK = 0.2
#: Seconds that all nodes of an allocation may take to start their Ray.
GATHER_WITHIN = 300.0
MARGIN = 15.0


class RayNodes:
    """One node's share of a Ray allocation."""

    def __init__(self, intent_file: str) -> None:
        self._intent_file = intent_file
        self._driver: subprocess.Popen[bytes] | None = None
        self._lead = 0.0

    def __getstate__(self) -> dict[str, str]:
        return {"intent_file": self._intent_file}

    def __setstate__(self, state: Mapping[str, str]) -> None:
        self.__init__(state["intent_file"])

    def __call__(self) -> None:
        """Take part until the experiment has ended. Raises SystemExit with the experiment's exit code where that is not 0."""
        signal.signal(signal.SIGTERM, self._on_term)
        allocation = Allocation.of(Path(self._intent_file))
        if allocation is None:
            sys.stderr.write(f"{self._intent_file}: this submission was put away; nothing to do\n")
            return
        self._lead = allocation.lead
        folder = intents.folder(allocation.run, allocation.intent.sid)
        meeting = folder / f"ray-{allocation.native}-{allocation.restart}.json"
        code = self._lead_on(meeting, allocation) if allocation.is_first else _follow(meeting, allocation.intent)
        if code:
            raise SystemExit(code)

    def _lead_on(self, meeting: Path, allocation: Allocation) -> int:
        token = secrets.token_hex(32)
        head = _head(allocation.intent)
        with Meter(allocation) as meter, _own_folder() as folder, _ray([*head, f"--temp-dir={folder}"], _environment(token)) as process:
            _write_secret(meeting, {"address": _address_of(process, folder), "token": token})
            try:
                words = [sys.executable, "-m", "orchestrator.backends.slurm.ray_driver", self._intent_file, str(meeting)]
                self._driver = subprocess.Popen([*words, str(allocation.world)], stdin=subprocess.DEVNULL, env=_environment(token))
                while self._driver.poll() is None:
                    meter.note()
                    time.sleep(TICK)
                return self._driver.returncode
            finally:
                meeting.unlink(missing_ok=True)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        del signum, frame
        self._ask()

    def _ask(self) -> None:
        driver = self._driver
        if driver is not None and driver.poll() is None:
            driver.send_signal(signal.SIGTERM)

    def checkpoint(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the experiment to save and end, wait for it as long as there is time, and return what runs after the requeue."""
        from submitit.core.utils import DelayedSubmission

        del args, kwargs
        self._ask()
        until = time.monotonic() + max(self._lead - MARGIN, MARGIN)
        while self._driver is not None and self._driver.poll() is None and time.monotonic() < until:
            time.sleep(TICK)
        return DelayedSubmission(RayNodes(self._intent_file))


def _follow(meeting: Path, intent: Intent) -> int:
    """Start this node's Ray, and end it when the first node's experiment has ended."""
    until = time.monotonic() + GATHER_WITHIN
    while not meeting.exists():
        if time.monotonic() > until:
            sys.stderr.write(f"{meeting}: the first node's Ray did not come up within {GATHER_WITHIN:.0f} s\n")
            return 1
        time.sleep(TICK)
    where = json.loads(meeting.read_text(encoding="utf-8"))
    command = [*_start(intent), f"--address={where['address']}"]
    with _ray(command, _environment(where["token"])) as node:
        while meeting.exists() and node.poll() is None:
            time.sleep(TICK)
    return 0


# --- one node's Ray ----------------------------------------------------------------------------------------------------------------------


def _start(intent: Intent) -> list[str]:
    cpus, gpus = intent.terms["node_cpus"], intent.terms["node_gpus"]
    script = "from ray.scripts.scripts import main; main()"
    return [sys.executable, "-c", script, "start", "--block", f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--disable-usage-stats"]


def _head(intent: Intent) -> list[str]:
    return [
        *_start(intent),
        "--head",
        "--port=0",
        f"--node-ip-address={_own_address()}",
        "--include-dashboard=false",
        f"--object-store-memory={100 * 2**20}",
    ]


@contextlib.contextmanager
def _ray(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a node's Ray, and end all of it. The word to save is not for it: it would die of it, and the jobs with it."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=dict(environment), start_new_session=True)
    finally:
        signal.signal(signal.SIGUSR2, before)
    try:
        yield process
    finally:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signum)
                process.wait(timeout=10)


@contextlib.contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a temporary folder with a short name: Ray's sockets lie in it."""
    parent = "/tmp" if os.access("/tmp", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="orch-ray-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _address_of(head: subprocess.Popen[bytes], folder: Path) -> str:
    """Wait until the first node's Ray has written where it is. Raises RuntimeError when it ends or takes too long."""
    until = time.monotonic() + GATHER_WITHIN
    file = folder / "ray_current_cluster"
    while time.monotonic() < until and head.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            text = file.read_text(encoding="utf-8").strip()
            if text:
                return text
        time.sleep(TICK)
    raise RuntimeError(f"the first node's Ray did not come up; what it said lies above, and in {folder}")


def _environment(token: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_USAGE_STATS_ENABLED": "0"}


def _own_address() -> str:
    """Return the address by which other nodes reach this one."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _write_secret(file: Path, content: Mapping[str, Json]) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(dict(content), sort_keys=True))
        stream.flush()
        os.fsync(stream.fileno())
    aside.rename(file)
