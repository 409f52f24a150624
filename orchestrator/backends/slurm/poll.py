"""Where jobs stand, by one squeue and one sacct whatever their number.

The queue is believed first: it is what the controller has now. Accounting tells how what left the queue has ended. An element that neither
knows is UNKNOWN until it was not found in several looks: a busy controller, a gap in the records and a purged job look the same at first.
Both are asked by the names of the submissions, which nobody else's jobs bear: numbers are given again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.paths import RunPaths
from jobs.spec import FailureKind, State
from orchestrator import intents
from orchestrator.backends.slurm import commands
from orchestrator.backends.slurm.launch import CLOCKS_DIFFER, LOOK_AGAIN_AFTER, note_missing
from orchestrator.backends.slurm.memory import KILLED, tells_of_memory
from orchestrator.errors import BackendError
from orchestrator.intents import Intent
from orchestrator.sightings import NOT_FOUND, Sighting

#: Every state of the manual (squeue and sacct, JOB STATE CODES), and what it means here. Any other word is UNKNOWN.
STATES: Mapping[str, tuple[State, FailureKind | None]] = {
    "PENDING": (State.SUBMITTED, None),
    "CONFIGURING": (State.SUBMITTED, None),
    "REQUEUED": (State.SUBMITTED, None),
    "REQUEUE_FED": (State.SUBMITTED, None),
    "REQUEUE_HOLD": (State.SUBMITTED, None),
    "RESV_DEL_HOLD": (State.SUBMITTED, None),
    "SPECIAL_EXIT": (State.SUBMITTED, None),
    "POWER_UP_NODE": (State.SUBMITTED, None),
    "RUNNING": (State.RUNNING, None),
    "COMPLETING": (State.RUNNING, None),
    "RESIZING": (State.RUNNING, None),
    "SIGNALING": (State.RUNNING, None),
    "STAGE_OUT": (State.RUNNING, None),
    "STOPPED": (State.RUNNING, None),
    "SUSPENDED": (State.RUNNING, None),
    "UPDATE_DB": (State.RUNNING, None),
    "EXPEDITING": (State.RUNNING, None),
    "COMPLETED": (State.SUCCEEDED, None),
    "FAILED": (State.FAILED, None),
    "CANCELLED": (State.CANCELLED, None),
    "REVOKED": (State.CANCELLED, None),
    "DEADLINE": (State.FAILED, FailureKind.TIMEOUT),
    "TIMEOUT": (State.FAILED, FailureKind.TIMEOUT),
    "OUT_OF_MEMORY": (State.FAILED, FailureKind.HOST_OOM),
    "PREEMPTED": (State.FAILED, FailureKind.PREEMPTED),
    "BOOT_FAIL": (State.FAILED, FailureKind.NODE_FAIL),
    "LAUNCH_FAILED": (State.FAILED, FailureKind.NODE_FAIL),
    "RECONFIG_FAIL": (State.FAILED, FailureKind.NODE_FAIL),
    "NODE_FAIL": (State.FAILED, FailureKind.NODE_FAIL),
}
_ARRAY = re.compile(r"(?P<id>\d+)(?:_(?:(?P<index>\d+)|\[(?P<ranges>[^\]%]*)(?:%\d+)?\]))?")
#: What squeue is asked for: number or array_index, name, state, reason, nodes.
_SQUEUE_FORMAT = "%i|%j|%T|%r|%N"
_SACCT_FORMAT = "JobID,JobName,State,NodeList,ExitCode"
#: What `sacct` says where nothing is recorded.
_NO_RECORDS = "accounting storage is disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """What the scheduler said, by (name, element)."""

    sightings: Mapping[tuple[str, str], Sighting]
    #: Everybody who was to be asked has answered, so that what is not there is missing.
    complete: bool = True


def poll(run: RunPaths, found: Sequence[Intent], *, accounting: bool, now: Callable[[], float] = time.time) -> dict[str, Sighting] | None:
    """Return what the scheduler says of every job of these submissions; None when it does not answer.

    Asks nothing when there is nothing to ask for.
    """
    if not found:
        return {}
    answers = _ask(found, accounting=accounting)
    if answers is None:
        return None
    seen: dict[str, Sighting] = {}
    for intent in found:
        seen |= _of_intent(run, intent, answers, now)
    return seen


def _ask(found: Sequence[Intent], *, accounting: bool) -> _Answers | None:
    """Ask the records and the queue; without the records the queue alone is believed, and without the queue nothing."""
    names = f"--name={','.join(intent.name for intent in found)}"
    told = _records(found, names) if accounting else ""
    try:
        queued = commands.run("squeue", "--noheader", "--array", "--states=all", names, f"--format={_SQUEUE_FORMAT}")
    except BackendError as error:
        if error.transient:
            return None
        raise
    # What the controller has now is newer than the records; an ended element it still lists may lack the cause that the records have.
    # What runs by the records alone does not run: the controller has all that is live, and the word of its end was lost or is late.
    answers = {key: sighting for key, sighting in _recorded(told or "") if not sighting.is_live}
    for key, sighting in _queued(queued):
        if key not in answers or sighting.is_live:
            answers[key] = sighting
    return _Answers(sightings=answers, complete=told is not None)


def _records(found: Sequence[Intent], names: str) -> str | None:
    """Return what accounting tells, nothing where there is none; None when it does not answer, which may last for hours."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(min(intent.created for intent in found) - CLOCKS_DIFFER))
    try:
        return commands.run("sacct", "-X", "-n", "-P", names, f"--starttime={start}", f"--format={_SACCT_FORMAT}")
    except BackendError as error:
        if _NO_RECORDS in str(error):
            return ""
        if error.transient:
            return None
        raise


def _recorded(told: str) -> Iterator[tuple[tuple[str, str], Sighting]]:
    for line in told.splitlines():
        fields = line.split("|")
        if len(fields) >= 5:
            number, name, word, node, ended = fields[:5]
            yield from _sightings(number, name, word, node=node, exit_code=_exit_code(ended))


def _queued(told: str) -> Iterator[tuple[tuple[str, str], Sighting]]:
    for line in told.splitlines():
        fields = line.split("|")
        if len(fields) >= 5:
            number, name, word, reason, node = fields[:5]
            yield from _sightings(number, name, word, reason=reason, node=node)


def _sightings(number: str, name: str, word: str, **more: Any) -> Iterator[tuple[tuple[str, str], Sighting]]:
    """Yield one sighting for each element that a row stands for. `CANCELLED by 1000` and `CANCELLED+` are cancelled."""
    for index in indices(number):
        native = number.split("_")[0] + (f"_{index}" if index else "")
        yield (name, index), sighting_of(word.split(" ")[0].rstrip("+"), native=native, **more)


def _exit_code(said: str) -> int | None:
    """Return an exit code as a shell gives it: `137:0` and `0:9` are both 137."""
    code, _, signum = said.partition(":")
    if not (code.isdigit() and signum.isdigit()):
        return None
    return 128 + int(signum) if int(signum) else int(code)


def sighting_of(word: str, *, reason: str = "", node: str = "", native: str = "", exit_code: int | None = None) -> Sighting:
    """Return what a word of Slurm means; one that is not in its manual is UNKNOWN and never done."""
    state, failure = STATES.get(word, (State.UNKNOWN, None))
    clean = "" if node in ("None assigned", "(null)") else node
    why = "" if reason == "None" else reason
    return Sighting(state=state, failure=failure, word=word, reason=why, node=clean, native=native, exit_code=exit_code)


def indices(number: str) -> list[str]:
    """Return the indices that a job number stands for: `7` gives one that is empty, `7_3` gives 3, `7_[1-2,5%4]` gives 1, 2, 5."""
    match = _ARRAY.fullmatch(number)
    if match is None:
        return []
    if match["ranges"] is None:
        return [match["index"] or ""]
    listed: list[str] = []
    for piece in match["ranges"].split(","):
        low, _, high = piece.partition("-")
        high, _, step = high.partition(":")
        if low.isdigit():
            listed += [str(index) for index in range(int(low), int(high or low) + 1, int(step or 1))]
    return listed


def _of_intent(run: RunPaths, intent: Intent, answers: _Answers, now: Callable[[], float]) -> dict[str, Sighting]:
    array = bool(intent.native and intent.native["array"])
    native = str(intent.native["id"]) if intent.native else ""
    by_index = [answers.sightings.get((intent.name, str(index) if array else "")) for index in range(len(intent.elements))]
    missing = [str(index) for index, sighting in enumerate(by_index) if sighting is None]
    since = note_missing(run, intent.sid, missing, now=now) if answers.complete else {}
    seen: dict[str, Sighting] = {}
    for index, element in enumerate(intent.elements):
        sighting = by_index[index]
        called = f"{native}_{index}" if array else native
        if sighting is None:
            gone = answers.complete and now() - since[str(index)] >= LOOK_AGAIN_AFTER
            sighting = Sighting(state=State.FAILED if gone else State.UNKNOWN, word=NOT_FOUND, native=called)
        elif sighting.state is State.FAILED and sighting.failure is None and (sighting.exit_code is None or sighting.exit_code in KILLED):
            log = intents.folder(run, intent.sid) / f"{called}_0_log.out"
            sighting = replace(sighting, failure=FailureKind.HOST_OOM) if tells_of_memory(log) else sighting
        for lane in element:
            seen.update((job, sighting) for job in lane)
    return seen
