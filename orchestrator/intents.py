"""What a client said it would do, written before it did it: one file a submission.

submissions/<sid>.json      the intent: owner, backend, ordered jobs with the attempt each starts at, native id once there is one
submissions/<sid>.beat      touched by the owner while it works; read only when the owner is on another host
submissions/<sid>.cancel    job ids that somebody wants cancelled; the owner obeys
submissions/<sid>.halt      there while the owner wants to stop: its other processes start nothing more
submissions/<sid>.log       what the backend itself had to say
submissions/<sid>.missing   elements that the scheduler did not know when it was asked last, and since when
submissions/<sid>/          what a scheduler's start reads and writes: scripts, pickles, output
submissions/ended/          intents whose owner finished, or whose jobs are all final
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jobs.events import is_alive, process_identity
from jobs.paths import RunPaths, write_atomically
from jobs.spec import Json, pretty_json
from orchestrator.errors import LedgerError

#: Seconds without a sign of life after which an owner on another host counts as dead, and an intent without a native id as stale.
STALE_AFTER = 120.0
#: Seconds between two signs of life.
BEAT_EVERY = 20.0
LOCK_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One element of an array in a scheduler's queue; without an index, a job that is no array."""

    native: str
    index: int | None
    #: Jobs of several lanes stand there: it fails with any of them.
    is_shared: bool = False

    def __str__(self) -> str:
        return self.native if self.index is None else f"{self.native}_{self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One submission as recorded before anything of it started."""

    sid: str
    owner: Mapping[str, Json]
    backend: str
    sweep: str
    created: float
    #: Job id -> number of the first attempt that this submission may start, in submission order.
    jobs: Mapping[str, int]
    #: What the scheduler calls it; None until it is known, and for ever on backends without a scheduler.
    native: Mapping[str, Json] | None = None
    #: True when the jobs run on after the owner has gone, so that only the scheduler can tell where they stand.
    detaches: bool = False
    #: What each element of the scheduler's array runs: lanes side by side, each of job ids one after the other.
    elements: tuple[tuple[tuple[str, ...], ...], ...] = ()
    #: What a start on a node must know besides: numbers and words of the cluster config.
    terms: Mapping[str, Json] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return what the scheduler's queue calls it."""
        return f"orch-{self.sid[:12]}"

    def places(self) -> dict[str, Place]:
        """Return where each of its jobs stands in the scheduler's queue; nothing while it has no native id."""
        if self.native is None:
            return {}
        native = str(self.native["id"])
        return {
            job: Place(native=native, index=index if self.native["array"] else None, is_shared=len(element) > 1)
            for index, element in enumerate(self.elements)
            for lane in element
            for job in lane
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An intent and whether somebody still stands behind it."""

    intent: Intent
    live: bool
    #: Its owner is gone for certain: nobody will write what the scheduler calls it. A young one counts as live all the same.
    orphaned: bool = False
    cancelled: frozenset[str] = field(default_factory=frozenset)


@contextmanager
def locked(run: RunPaths) -> Iterator[None]:
    """Hold the lock of a run root, for milliseconds. Raises LedgerError when another client keeps it for a minute."""
    from filelock import FileLock, Timeout

    run.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.lock, timeout=LOCK_TIMEOUT):
            yield
    except Timeout:
        raise LedgerError(
            f"{run.lock}: another client has held the lock for {LOCK_TIMEOUT:.0f} s; look for it with `fuser {run.lock}` and end it"
        ) from None


def new_intent(
    *,
    backend: str,
    sweep: str,
    jobs: Mapping[str, int],
    detaches: bool = False,
    elements: tuple[tuple[tuple[str, ...], ...], ...] = (),
    terms: Mapping[str, Json] | None = None,
) -> Intent:
    """Make an intent of this process."""
    return Intent(
        sid=uuid.uuid4().hex,
        owner=process_identity(),
        backend=backend,
        sweep=sweep,
        created=time.time(),
        jobs=dict(jobs),
        detaches=detaches,
        elements=elements,
        terms=dict(terms or {}),
    )


def record(run: RunPaths, intent: Intent) -> None:
    """Write an intent durably; to be called under the lock, before anything of it starts."""
    numbers = {job: number for number, job in enumerate(intent.jobs)}
    content = {
        "sid": intent.sid,
        "owner": dict(intent.owner),
        "backend": intent.backend,
        "sweep": intent.sweep,
        "created": intent.created,
        "jobs": [{"job": job, "attempt": attempt} for job, attempt in intent.jobs.items()],
        "native": dict(intent.native) if intent.native is not None else None,
        "detaches": intent.detaches,
        # By their places in the list of jobs: ids are long, and there may be thousands.
        "elements": [[[numbers[job] for job in lane] for lane in element] for element in intent.elements],
        "terms": dict(intent.terms),
    }
    write_atomically(_file(run, intent.sid), pretty_json(content).encode())
    beat(run, intent.sid)


def record_native(run: RunPaths, intent: Intent, native: Mapping[str, Json]) -> Intent | None:
    """Write what the scheduler calls a submission; to be called under the lock. Returns the intent that carries it.

    Returns None for one that somebody has put away in the meantime: its jobs are theirs now, and it must not come back.
    """
    found = read(run, intent.sid)
    if found is None:
        return None
    if found.native is not None:
        return found
    known = replace(intent, native=dict(native))
    record(run, known)
    return known


def beat(run: RunPaths, sid: str) -> None:
    """Show a sign of life of an intent that was not put away."""
    if _file(run, sid).exists():
        _file(run, sid, "beat").touch()


@contextmanager
def beating(run: RunPaths, sids: Iterable[str]) -> Iterator[None]:
    """Show signs of life of intents for as long as a `with` lasts, however long a scheduler takes to answer."""
    wanted, over = tuple(sids), threading.Event()

    def keep() -> None:
        while not over.wait(BEAT_EVERY):
            with suppress(OSError):
                for sid in wanted:
                    beat(run, sid)

    thread = threading.Thread(target=keep, name="beating", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def end(run: RunPaths, sid: str) -> None:
    """Put an intent away: its owner answers for its jobs no longer. Where the jobs outlive the client, to be called under the lock."""
    file = _file(run, sid)
    ended = run.submissions / "ended"
    ended.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(file, ended / file.name)
    except FileNotFoundError:
        return
    for kind in ("beat", "cancel", "halt", "missing"):
        _file(run, sid, kind).unlink(missing_ok=True)


def give_up(run: RunPaths, sids: Iterable[str]) -> None:
    """Put away submissions that were never made, unless somebody has found out meanwhile that they were; takes the lock."""
    with locked(run):
        for sid in sids:
            found = read(run, sid)
            if found is not None and found.native is None:
                end(run, sid)


def read(run: RunPaths, sid: str) -> Intent | None:
    """Read one intent; None when it was put away. Raises LedgerError for a file that is no intent."""
    return _read(_file(run, sid))


def record_file(run: RunPaths, sid: str) -> Path:
    """Return the file of an intent."""
    return _file(run, sid)


def missing_file(run: RunPaths, sid: str) -> Path:
    """Return where it stands which elements a scheduler did not know, and since when."""
    return _file(run, sid, "missing")


def folder(run: RunPaths, sid: str) -> Path:
    """Return where a scheduler's starts read and write."""
    return run.submissions / sid


def log_file(run: RunPaths, sid: str) -> Path:
    """Return where a backend writes what it has to say about a submission."""
    return _file(run, sid, "log")


def halt_file(run: RunPaths, sid: str) -> Path:
    """Return the file that, while it is there, keeps a submission's other processes from starting one more job."""
    return _file(run, sid, "halt")


def ask_to_cancel(run: RunPaths, sid: str, jobs: Iterable[str]) -> None:
    """Ask the owner of a submission to cancel jobs of it; to be called under the lock."""
    wanted = sorted(cancel_requests(run, sid) | set(jobs))
    write_atomically(_file(run, sid, "cancel"), pretty_json(wanted).encode())


def cancel_requests(run: RunPaths, sid: str) -> frozenset[str]:
    """Return the job ids of a submission that somebody wants cancelled."""
    try:
        return frozenset(json.loads(_file(run, sid, "cancel").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return frozenset()


def open_intents(run: RunPaths, *, ignoring: str | None = None) -> list[Held]:
    """Return every intent that was not put away, oldest first, with whether it is live.

    `ignoring` names one that is not even read. One that disappears while being read was just put away.
    Raises LedgerError for a file that is no intent.
    """
    found: list[Held] = []
    clock = _FileClock(run)
    for file in _intent_files(run.submissions):
        intent = _read(file) if file.stem != ignoring else None
        if intent is not None:
            found.append(_held(intent, run, clock))
    return sorted(found, key=lambda held: (held.intent.created, held.intent.sid))


def ended_intents(run: RunPaths) -> list[Intent]:
    """Return every intent that was put away, oldest first. Raises LedgerError for a file that is no intent."""
    found = [intent for file in _intent_files(run.submissions / "ended") if (intent := _read(file)) is not None]
    return sorted(found, key=lambda intent: (intent.created, intent.sid))


def _intent_files(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def _read(file: Path) -> Intent | None:
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    return _read_once(file, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=64)
def _read_once(file: Path, _changed: int, _inode: int) -> Intent | None:
    """Parse a record once: it may name 10,000 jobs, and a driver looks whenever one of its own has ended."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        ids = [item["job"] for item in content["jobs"]]
        return Intent(
            sid=content["sid"],
            owner=content["owner"],
            backend=content["backend"],
            sweep=content["sweep"],
            created=content["created"],
            jobs={item["job"]: item["attempt"] for item in content["jobs"]},
            native=content["native"],
            detaches=content["detaches"],
            elements=tuple(tuple(tuple(ids[number] for number in lane) for lane in element) for element in content.get("elements", ())),
            terms=content.get("terms", {}),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise LedgerError(f"{file}: not the record of a submission ({error}); move it away and submit again") from None


def _held(intent: Intent, run: RunPaths, clock: _FileClock) -> Held:
    cancelled = cancel_requests(run, intent.sid)
    if intent.native is not None:
        return Held(intent=intent, live=True, cancelled=cancelled)
    alive = is_alive(dict(intent.owner))
    live = alive if alive is not None else clock.age(_file(run, intent.sid, "beat")) < STALE_AFTER
    # A client that is gone may have left a call of the scheduler on its way.
    live = live or (intent.detaches and clock.age(_file(run, intent.sid)) < STALE_AFTER)
    return Held(intent=intent, live=live, orphaned=alive is False, cancelled=cancelled)


class _FileClock:
    """Ages of files by the clock of the file server, whose time may not be this host's."""

    def __init__(self, run: RunPaths) -> None:
        self._run = run
        self._now: float | None = None

    def age(self, file: Path) -> float:
        try:
            changed = file.stat().st_mtime
        except FileNotFoundError:
            return float("inf")
        if self._now is None:
            self._now = self._server_time()
        return self._now - changed

    def _server_time(self) -> float:
        try:
            with tempfile.NamedTemporaryFile(dir=self._run.submissions, prefix=".now.") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return time.time()


def _file(run: RunPaths, sid: str, kind: str = "json") -> Path:
    return run.submissions / f"{sid}.{kind}"
