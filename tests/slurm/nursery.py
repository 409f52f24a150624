"""Clients as real processes, started in milliseconds: a process that has imported everything forks one for each that a test asks for.

Each can be told to die at a point (`fault_points`), and leaves the list of points that it passed where it is told to.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one client is to do."""

    #: Holds the run root; the client's output goes to `<name>.log` in it.
    folder: str
    name: str
    #: Name of a plan in `crash_plans`.
    plan: str
    #: Follow the plan to its end.
    wait: bool = False
    #: Constants of the protocol that are shorter than on a real cluster, by `module:name`.
    shorter: Mapping[str, float] | None = None
    #: The point at which a signal comes, counted from 1, and which signal.
    at: int | None = None
    signum: int = signal.SIGKILL
    #: Write the labels of all points that were passed into `<name>.points`.
    record: bool = False
    #: Wait until this file is there before submitting.
    after: str = ""
    #: Added to the environment.
    env: Mapping[str, str] | None = None
    #: Keys of `slurm:` in the cluster config, where they differ.
    site: Mapping[str, Any] | None = None


class Nursery:
    """Start clients: `with Nursery(env) as nursery: nursery.run(errand)`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = {**os.environ, **env, "OMP_NUM_THREADS": "1"}
        self._asked: dict[int, Future[int]] = {}
        self._pids: dict[int, Future[int]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Nursery:
        command = [sys.executable, "-m", "tests.slurm.nursery"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._reader.join(timeout=60)

    def start(self, errand: Errand) -> Client:
        """Start a client and return at once."""
        assert self._process.stdin is not None
        with self._lock:
            number = len(self._asked)
            ended, pid = Future[int](), Future[int]()
            self._asked[number], self._pids[number] = ended, pid
            self._process.stdin.write(json.dumps({"number": number, **asdict(errand)}) + "\n")
            self._process.stdin.flush()
        return Client(pid=pid.result(timeout=60), _ended=ended)

    def run(self, errand: Errand, *, timeout: float = 180.0) -> int:
        """Run a client to its end; returns its exit code, or minus the signal that ended it."""
        return self.start(errand).wait(timeout)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "pid" in told:
                self._pids[told["number"]].set_result(told["pid"])
            else:
                self._asked[told["number"]].set_result(told["code"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client that was started."""

    pid: int
    _ended: Future[int]

    def wait(self, timeout: float = 180.0) -> int:
        """Wait for its end; returns its exit code, or minus the signal that ended it."""
        return self._ended.result(timeout=timeout)

    def wait_until_stopped(self) -> None:
        """Wait until SIGSTOP has come at its point. Raises ChildProcessError when it ended instead."""
        while Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            if self._ended.done():
                raise ChildProcessError("it ended before it came to the point")
            time.sleep(0.05)


# --- in the process that forks -----------------------------------------------------------------------------------------------------------


def _serve() -> None:
    """Fork a client for each line of stdin; say its number and, when it has ended, how. The end of stdin is the end of all."""
    from tests.slurm import crash_client

    said = os.dup(1)
    running: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        left, is_open = b"", True
        while is_open or running:
            for key, _ in selector.select():
                if key.fd == 0:
                    got = os.read(0, 2**16)
                    *lines, left = (left + got).split(b"\n")
                    for line in lines:
                        _fork(json.loads(line), selector, running, said, crash_client.do)
                    if not got:
                        is_open = False
                        selector.unregister(0)
                        for pid in running:
                            os.kill(pid, signal.SIGKILL)
                else:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    pid = key.data
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    _say(said, {"number": running.pop(pid), "code": code})


def _fork(asked: dict[str, Any], selector: selectors.BaseSelector, running: dict[int, int], said: int, do: Any) -> None:
    number = asked.pop("number")
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            code = do(Errand(**asked))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    running[pid] = number
    _say(said, {"number": number, "pid": pid})
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)


def _say(said: int, what: dict[str, int]) -> None:
    os.write(said, (json.dumps(what) + "\n").encode())


if __name__ == "__main__":
    _serve()
