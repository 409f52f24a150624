"""The processes that run one job together: how they meet, and how each learns that another is gone.

Somebody else starts them, each as `python -m jobs run job.json --rank R --world W --local-rank L --meeting KEY`. The first claims the
attempt as a process alone does, and says in `meetings/<key>.json` where it listens; the others come, each with one connection that stays
open. What goes over it are words, one JSON object a line:

    to the first    hello (rank, who), fell (why)
    to the others   port (of the store through which they form their process group), ended (the exit code of the job)

A process that is killed says nothing, and its connection breaks: so the first knows at once which one it was. A collective operation
knows no more than that something is wrong, and one on a GPU may wait for ever; whoever still sits in one `GRACE` later is ended.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import write_atomically
from jobs.spec import FailureKind, Resources, pretty_json

#: Seconds that a process has to end by itself after another has ended.
GRACE = 10.0
#: The word, in a file or over a connection, that it is over, with the exit code of the first process.
OVER = "ended"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Which of how many processes this one is, and under which name they meet. Raises ValueError when that cannot be."""

    rank: int
    world: int
    #: Which one of its node.
    local_rank: int
    #: Names this very start: what another start of the same job left is not ours.
    key: str
    #: Seconds that the others wait for the first to claim the attempt, and the first, once it is ready, for the others.
    patience: float = 1800.0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ValueError(f"--rank {self.rank} is none of --world {self.world}: ranks are counted from 0")
        if self.local_rank < 0:
            raise ValueError(f"--local-rank {self.local_rank} is below 0")
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"--meeting '{self.key}' is no name of a file: letters, digits, '.', '_' and '-'")


def processes_per_node(resources: Resources) -> int:
    """Return how many processes of a train job share a node: one a GPU, or one."""
    return max(1, resources.gpus)


def processes_of(resources: Resources) -> int:
    """Return how many processes a train job has in all."""
    return resources.nodes * processes_per_node(resources)


def threads_of(resources: Resources) -> int:
    """Return how many threads each process of a train job has."""
    return max(1, resources.cpus // processes_per_node(resources))


class Dismissed(Exception):
    """The first process needs the others no more; `code` is the exit code for them."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Fallen(Exception):
    """Another process of this job ended, and with it the job."""

    def __init__(
        self, message: str, failure: FailureKind, *, for_people: bool = False, stopped: bool = False, broken: bool = False
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.for_people = for_people
        #: It was asked to stop before it had joined the others.
        self.stopped = stopped
        #: It only knows that it lost the others.
        self.broken = broken


def leave_word(file: Path, code: int) -> None:
    """Let those who come to a meeting that is not held know the exit code of the first process."""
    write_atomically(file, pretty_json({OVER: code}).encode())


def after_grace(end: Callable[[], None]) -> threading.Timer:
    """Call a function in a thread of its own when a process has had its time to end by itself."""
    timer = threading.Timer(GRACE, end)
    timer.daemon = True
    timer.start()
    return timer
