"""What an allocation does for the MLflow server while its jobs run: one of a sweep's allocations sends what all of them have written.

RUN_ROOT/followers/<sweep>/cluster.pickle   where the server is; there while nodes are to send
RUN_ROOT/followers/<sweep>/lock             held by the allocation that sends; it goes with its process
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

from jobs.paths import RunPaths, write_atomically
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.mirror.stores import is_server
from orchestrator.model import ClusterConfig

#: Seconds between two tries to be the one that sends.
TRY_EVERY = 30.0
#: Seconds that the last sync may take when the allocation ends.
LAST_SYNC = 60.0
_LIBRARY = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def offer(run: RunPaths, sweep: str, cluster: ClusterConfig) -> None:
    """Write down for a sweep's allocations where the server is, or that they send nothing."""
    file = _file(run, sweep)
    if not (cluster.slurm.sync and is_server(cluster.mlflow)):
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    # An address may hold a password.
    file.parent.chmod(0o700)
    write_atomically(file, pickle.dumps(cluster))


class Follower:
    """Sends from one allocation, when no other of its sweep does."""

    def __init__(self, allocation: Allocation) -> None:
        self._file = _file(allocation.run, allocation.intent.sweep)
        self._may = allocation.is_first and self._file.exists()
        self._lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._tried = -TRY_EVERY

    def look(self) -> None:
        """Start to send when nobody does; start again when the process has ended."""
        if not self._may or time.monotonic() - self._tried < TRY_EVERY:
            return
        self._tried = time.monotonic()
        if not self._sends and self._takes_lock():
            self._start()

    def end(self) -> None:
        """Have what is left sent, for so long as that may take, unless another allocation sends."""
        if not self._may or not self._takes_lock():
            return
        until, child = time.monotonic() + LAST_SYNC, self._child
        asked = child is not None and self._sends
        if child is not None and asked:
            child.send_signal(signal.SIGTERM)
        if not self._wait(until) or (asked and child is not None and child.returncode == 0):
            return
        # It had not begun to listen, or had ended before: what came since is sent by another.
        self._start("--once")
        self._wait(until)

    @property
    def _sends(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def _start(self, *words: str) -> None:
        command = [sys.executable, "-m", "orchestrator.mirror.follow", str(self._file), *words]
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_behind_the_jobs)

    def _wait(self, until: float) -> bool:
        """Wait for the process, and end it when it takes too long. Returns whether it ended by itself."""
        if self._child is None:
            return True
        try:
            self._child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End it at once; whoever syncs next makes it good."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _takes_lock(self) -> bool:
        if self._lock is not None:
            return True
        try:
            self._lock = os.open(self._file.with_name("lock"), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if self._lock is not None:
                os.close(self._lock)
            self._lock = None
        return self._lock is not None


def _file(run: RunPaths, sweep: str) -> Path:
    return run.root / "followers" / sweep / "cluster.pickle"


def _behind_the_jobs() -> None:
    """Let the jobs have the processors first, and the kernel end this process with its parent."""
    os.nice(10)
    _LIBRARY.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
