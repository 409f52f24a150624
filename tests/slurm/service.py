"""One daemon of a test cluster, with all that it starts, held by a keeper."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.slurm.keeper import processes_below

KEEPER = Path(__file__).with_name("keeper.py")


class Service:
    """A daemon that runs in the foreground below a keeper of its own."""

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        self.command = tuple(command)
        self.log = log
        self.pid = 0
        self._env = dict(env)
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Tell whether the daemon itself runs."""
        return self._keeper is not None and self.pid in processes_below(self._keeper.pid)

    @property
    def processes(self) -> list[int]:
        """List the pids of the daemon and of everything it started."""
        return [] if self._keeper is None else processes_below(self._keeper.pid)

    def start(self) -> None:
        """Start the daemon below a new keeper. Raises RuntimeError when it could not be started at all."""
        self.end()
        # Isolated and without site: a keeper needs neither, and starts in 20 ms.
        command = (sys.executable, "-I", "-S", str(KEEPER), str(self.log), *self.command)
        self._keeper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._env, cwd="/", start_new_session=True
        )
        assert self._keeper.stdout is not None
        answer = self._keeper.stdout.readline()
        if not answer:
            self.end()
            raise RuntimeError(f"{self.command[0]} could not be started")
        self.pid = int(answer)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def dismiss(self) -> None:
        """Ask for the end of everything below, without waiting."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        # A forked child of the tests may hold a copy of that pipe open.
        self._keeper.terminate()

    def end(self) -> None:
        """End the daemon and everything that it started (SIGKILL), and return when nothing of it is left."""
        if self._keeper is None:
            return
        self.dismiss()
        self._keeper.wait()
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()
        self._keeper, self.pid = None, 0
