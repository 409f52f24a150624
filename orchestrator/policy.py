"""What follows from each kind of failure: one table, with the words that people read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.spec import FailureKind, Resources


class Remedy(StrEnum):
    """Who has to act before a job that failed so runs again."""

    #: Nobody: the next `submit` goes on from the last checkpoint. It is not a failure.
    CONTINUE = "continue"
    #: A person, who makes room; the next `submit` or `resume` then goes on, and never the one that found no room.
    MAKE_ROOM = "make room"
    #: A person, with `resume`, which asks for more of what ran out.
    BUMP = "bump"
    #: A person, who changes something first; `resume` then runs it again.
    FIX = "fix"
    #: Nobody: it lost, and only naming the kind (`resume --failure KIND`) runs it again.
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table."""

    remedy: Remedy
    #: What happened, for people.
    what: str
    #: What follows, for people.
    then: str
    #: What a bump multiplies.
    memory: float = 1.0
    time: float = 1.0
    exclude_node: bool = False


TABLE: Mapping[FailureKind, Rule] = {
    FailureKind.PREEMPTED: Rule(
        remedy=Remedy.CONTINUE, what="stopped from outside after saving", then="goes on from its checkpoint at the next submit"
    ),
    FailureKind.NODE_FAIL: Rule(
        remedy=Remedy.CONTINUE,
        what="the node went down",
        then="goes on from its checkpoint on another node at the next submit",
        exclude_node=True,
    ),
    FailureKind.LOST: Rule(
        remedy=Remedy.CONTINUE, what="its process vanished without a word", then="goes on from its checkpoint at the next submit"
    ),
    FailureKind.TIMEOUT: Rule(
        remedy=Remedy.BUMP, what="the time limit ran out", then="`resume` goes on from its checkpoint with twice the time", time=2.0
    ),
    FailureKind.HOST_OOM: Rule(
        remedy=Remedy.BUMP, what="the host's memory ran out", then="`resume` goes on with half as much memory again", memory=1.5
    ),
    FailureKind.CUDA_OOM: Rule(
        remedy=Remedy.FIX,
        what="the GPU's memory ran out",
        then="take a larger GPU, then `resume`; or set a smaller `micro_batch` (same batch), with which the phase trains anew",
    ),
    FailureKind.DIVERGED: Rule(remedy=Remedy.GIVE_UP, what="the loss became NaN or infinite", then="it lost: a pick passes over it"),
    FailureKind.COLLAPSED: Rule(remedy=Remedy.GIVE_UP, what="the representation collapsed", then="it lost: a pick passes over it"),
    FailureKind.BAD_DATA: Rule(remedy=Remedy.FIX, what="the data are not what their card says", then="put the data right, then `resume`"),
    FailureKind.DISK_FULL: Rule(
        remedy=Remedy.MAKE_ROOM, what="the disk is full", then="free some space, and the next submit goes on from its checkpoint"
    ),
    FailureKind.ERROR: Rule(remedy=Remedy.FIX, what="the code raised an error", then="read the log, change what is wrong, then `resume`"),
}


def rule(kind: FailureKind) -> Rule:
    """Return what follows from a kind of failure."""
    return TABLE[kind]


def continues(kind: FailureKind) -> bool:
    """Tell whether a job that ended so simply goes on at the next submit."""
    return TABLE[kind].remedy is Remedy.CONTINUE


def goes_on(kind: FailureKind) -> bool:
    """Tell whether the next submit runs a job that failed so again, because what it lacked was outside of it."""
    return TABLE[kind].remedy is Remedy.MAKE_ROOM


def resumes(kind: FailureKind) -> bool:
    """Tell whether a plain `resume` runs a job that ended so again."""
    return TABLE[kind].remedy is not Remedy.GIVE_UP


def bumped(resources: Resources, kind: FailureKind | None, times: int = 1) -> Resources:
    """Return what the next attempt asks for after a failure of this kind, of which it is the one that makes so many."""
    if kind is None:
        return resources
    row, times = TABLE[kind], max(times, 1)
    return replace(
        resources,
        memory_mb=round(resources.memory_mb * row.memory**times),
        time_minutes=round(resources.time_minutes * row.time**times),
    )


def sentence(kind: FailureKind) -> str:
    """Say what happened and what follows, in one line."""
    row = TABLE[kind]
    return f"{row.what}: {row.then}"
