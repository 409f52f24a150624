"""The side of every process of a company but the first: how it finds the first, and what it is told."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from jobs.addresses import OVERRIDE, use_interface_of
from jobs.company import OVER, Company, Dismissed, after_grace
from jobs.events import process_identity
from jobs.host import Stopped
from jobs.line import Line
from jobs.paths import AttemptPaths, JobPaths
from jobs.records import read_record
from jobs.spec import FailureKind, Json
from trainers.errors import Error, GroupBroken

#: Seconds that a meeting which was announced and cannot be reached is tried again.
_UNREACHABLE = 120.0
_LOOK_EVERY = 0.1


class Seat:
    """The place of one process at a meeting."""

    def __init__(self, company: Company, line: Line, attempt: AttemptPaths, address: str) -> None:
        self.company = company
        self.attempt = attempt
        self._line = line
        self._address = address
        self._changed = threading.Condition()
        self._port: int | None = None
        self._code: int | None = None
        self._gone = self._leaving = False
        self._timer: threading.Timer | None = None
        use_interface_of(line.own_address)
        threading.Thread(target=self._listen, name="meeting", daemon=True).start()

    def facts(self, should_stop: Callable[[], bool]) -> dict[str, Json]:
        """Return what `trainers.processes.Group` asks for."""
        company = self.company
        find = partial(self._find, should_stop)
        return {"rank": company.rank, "count": company.world, "local_rank": company.local_rank, "address": self._address, "find": find}

    def tell(self, failure: FailureKind, message: str, **more: bool) -> None:
        """Tell the first process why this one ends (`for_people`, `stopped`, `broken`: as of `Fallen`)."""
        self._line.say({"fell": {"failure": str(failure), "message": message, "for_people": False, **more}})

    def tell_stopped(self) -> None:
        """Tell the first process that this one was asked to stop before all had met; afterwards all stop together, and the first saves."""
        if self._port is None:
            self.tell(FailureKind.ERROR, "asked to stop", stopped=True)

    def leave(self, otherwise: int) -> int:
        """Wait for the end of the job and return its exit code; `otherwise` when the first process ends without a word."""
        with self._changed:
            self._leaving = True
            if self._timer is not None:
                self._timer.cancel()
            self._changed.wait_for(lambda: self._gone)
            self._line.close()
            return otherwise if self._code is None else self._code

    def _find(self, should_stop: Callable[[], bool]) -> int:
        with self._changed:
            while self._port is None:
                if self._code is not None:
                    raise Dismissed(self._code)
                if self._gone:
                    raise GroupBroken("the first process of this job ended without a word: see its stdout, and what the scheduler says")
                if should_stop():
                    raise Stopped
                self._changed.wait(_LOOK_EVERY)
            return self._port

    def _listen(self) -> None:
        for word in self._line.words():
            with self._changed:
                self._port = word.get("port", self._port)
                self._code = word.get(OVER, self._code)
                if self._code is not None:
                    break
                self._changed.notify_all()
        with self._changed:
            self._gone = True
            self._changed.notify_all()
            if not self._leaving:
                code = 1 if self._code is None else self._code
                self._timer = after_grace(lambda: os._exit(code))


def sit_down(company: Company, paths: JobPaths, should_stop: Callable[[], bool]) -> Seat:
    """Find the first process and take the place of this one. Raises Dismissed when there is nothing to do, Stopped, and Error."""
    file, announced = paths.meeting(company.key), None
    deadline = time.monotonic() + company.patience
    while not should_stop():
        if paths.result.exists():
            raise Dismissed(0)
        place = _read(file)
        if place is not None:
            if OVER in place:
                raise Dismissed(place[OVER])
            if announced is None:
                deadline = min(deadline, time.monotonic() + _UNREACHABLE)
            announced = place
            for address in place["addresses"]:
                line = _connected(address, place, company.rank)
                if line is not None:
                    return Seat(company, line, paths.attempt(place["attempt"]), address)
        if time.monotonic() > deadline:
            raise Error(_nobody(company, file, announced))
        time.sleep(_LOOK_EVERY)
    raise Stopped


def _nobody(company: Company, file: Path, announced: dict[str, Json] | None) -> str:
    who = f"process {company.rank} of {company.world}"
    if announced is None:
        return f"{who}: the first process wrote no {file} within {company.patience:g} s; see what became of it"
    where = ", ".join(announced["addresses"])
    return (
        f"{who}: the first process is not reached at {where}, port {announced['port']}; see that it runs, or set {OVERRIDE} on its machine"
    )


def _read(file: Path) -> dict[str, Json] | None:
    try:
        return read_record(file)
    except FileNotFoundError:
        return None


def _connected(address: str, place: dict[str, Json], rank: int) -> Line | None:
    """Return a connection to a meeting, once it has welcomed us; None when it is not there. Raises Dismissed when it is over."""
    try:
        connection = socket.create_connection((address, place["port"]), timeout=10)
    except OSError:
        return None
    line = Line(connection)
    line.say({"hello": rank, "token": place["token"], "who": process_identity()})
    answer = next(line.words(), {})
    if "welcome" in answer:
        connection.settimeout(None)
        return line
    line.close()
    if OVER in answer:
        raise Dismissed(answer[OVER])
    return None
