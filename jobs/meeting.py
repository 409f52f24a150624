"""The first process's side of a company: who came, who fell, and what the others are told."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jobs.addresses import LOOPBACK, OVERRIDE, addresses, use_interface_of
from jobs.company import GRACE, OVER, Company, Fallen, after_grace, leave_word
from jobs.host import Stopped
from jobs.line import Line
from jobs.paths import AttemptPaths, write_atomically
from jobs.spec import FailureKind, Json, pretty_json
from trainers.errors import Error, GroupBroken

#: Seconds between two looks at whether this process was asked to stop.
_LOOK_EVERY = 0.1


class Meeting:
    """Where the first process of a job awaits the others and hears of them."""

    def __init__(self, company: Company, file: Path, attempt: AttemptPaths, nodes: int) -> None:
        self.company = company
        self._file = file
        self._attempt = attempt
        self._addresses = addresses(nodes)
        self._token = uuid.uuid4().hex
        self._changed = threading.Condition()
        self._lines: dict[int, Line] = {}
        self._who: dict[int, str] = {}
        #: In the order in which they fell.
        self._fallen: dict[int, Fallen] = {}
        self._joined = False
        #: The exit code for the others, once it is over for them.
        self._code: int | None = None
        self._timer: threading.Timer | None = None
        self._listener = socket.create_server(("", 0), backlog=min(company.world, socket.SOMAXCONN))

    def open(self, force: Callable[[Exception], int | None]) -> None:
        """Say where the meeting is.

        `force` records the end of the job when this process has to be ended, and returns its exit code; None when it is ending by itself.
        """
        self._force = force
        use_interface_of(self._addresses[0])
        threading.Thread(target=self._accept, name="meeting", daemon=True).start()
        port = self._listener.getsockname()[1]
        place = {"attempt": self._attempt.number, "addresses": self._addresses, "port": port, "token": self._token}
        write_atomically(self._file, pretty_json(place).encode())

    def facts(self, should_stop: Callable[[], bool]) -> dict[str, Json]:
        """Return what `trainers.processes.Group` asks for."""
        company = self.company
        announce = partial(self._announce, should_stop)
        return {"rank": 0, "count": company.world, "local_rank": company.local_rank, "address": LOOPBACK, "announce": announce}

    def cause(self, error: Exception) -> Exception:
        """Return what really happened where an error says no more than that the others are lost."""
        if not isinstance(error, GroupBroken):
            return error
        with self._changed:
            self._changed.wait_for(lambda: self._first_fallen() is not None, timeout=GRACE / 2)
            return self._first_fallen() or error

    def close(self, code: int) -> None:
        """Tell the others how the job ended."""
        with self._changed:
            if self._timer is not None:
                self._timer.cancel()
            self._send_home(code)
            everybody = len(self._lines) == self.company.world - 1
        with contextlib.suppress(OSError):  # Closing alone would leave the thread in `accept`, and the port open.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(OSError):
            if everybody:
                self._file.unlink(missing_ok=True)
                self._file.parent.rmdir()
            else:
                leave_word(self._file, code)

    def _send_home(self, code: int) -> None:
        self._code = code
        for line in self._lines.values():
            line.say({OVER: code})

    def _announce(self, should_stop: Callable[[], bool], port: int | None) -> None:
        """Wait for everybody and hand out the port; without a port, send everybody home. Raises Stopped, Fallen and Error."""
        deadline = time.monotonic() + self.company.patience
        with self._changed:
            if port is None:
                self._send_home(0)
                return
            while len(self._lines) < self.company.world - 1:
                self._raise_if_over(should_stop)
                if time.monotonic() > deadline:
                    raise Error(self._missing())
                self._changed.wait(_LOOK_EVERY)
            self._raise_if_over(should_stop)
            self._joined = True
            for line in self._lines.values():
                line.say({"port": port})

    def _raise_if_over(self, should_stop: Callable[[], bool]) -> None:
        fallen = self._first_fallen()
        if should_stop() or (fallen is not None and fallen.stopped):
            raise Stopped
        if fallen is not None:
            raise fallen

    def _first_fallen(self) -> Fallen | None:
        return next((fallen for fallen in self._fallen.values() if not fallen.broken), None)

    def _missing(self) -> str:
        missing = [rank for rank in range(1, self.company.world) if rank not in self._lines]
        return (
            f"{len(missing)} of {self.company.world} processes did not come within {self.company.patience:g} s (rank "
            f"{', '.join(map(str, missing))}): see what became of them, and that their machines reach {self._addresses[0]}, or set "
            f"{OVERRIDE} to an address of this one ({socket.gethostname()}) that they reach"
        )

    # --- threads -------------------------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # Closed: the job has ended.
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._attend, args=(Line(connection),), name="meeting", daemon=True).start()

    def _attend(self, line: Line) -> None:
        """Listen to one other process until it is gone."""
        words = line.words()
        hello = next(words, {})
        rank = hello.get("hello")
        if hello.get("token") != self._token or not isinstance(rank, int) or not 0 < rank < self.company.world:
            line.close()
            return
        with self._changed:
            if rank in self._lines:
                line.close()
                return
            self._lines[rank], self._who[rank] = line, f"pid {hello['who']['pid']} on {hello['who']['host']}"
            line.say({"welcome": rank} if self._code is None else {OVER: self._code})
            self._changed.notify_all()
        for word in words:
            if "fell" in word:
                self._fell(rank, word["fell"])
        self._fell(rank, None)

    def _fell(self, rank: int, why: dict[str, Json] | None) -> None:
        with self._changed:
            if self._code is not None or rank in self._fallen:
                return
            self._fallen[rank] = self._described(rank, why)
            self._changed.notify_all()
            if self._joined and self._timer is None:
                self._timer = after_grace(self._end_by_force)

    def _described(self, rank: int, why: dict[str, Json] | None) -> Fallen:
        who = f"process {rank} of {self.company.world} ({self._who[rank]})"
        if why is None:
            said = self._attempt.stdout_of(rank)
            return Fallen(f"{who} ended without a word: killed, out of memory, or its node went down; see {said}", FailureKind.LOST)
        message, kind = why.pop("message"), FailureKind(why.pop("failure"))
        place = "" if why["for_people"] else f"; see {self._attempt.traceback_of(rank)}"
        return Fallen(f"{who}: {message}{place}", kind, **why)

    def _end_by_force(self) -> None:
        with self._changed:
            if self._code is not None:
                return
            fallen = self._first_fallen() or next(iter(self._fallen.values()))
        code = self._force(fallen)
        if code is not None:
            self.close(code)
            os._exit(code)
