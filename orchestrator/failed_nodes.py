"""Nodes that failed under a job: noted beside the attempt that they ended, so that whatever starts the job again leaves them out.

RUN_ROOT/jobs/<id[:2]>/<id>/attempts/<n>/failed_nodes   names as a scheduler writes them: `gpu07`, `gpu[07-08]` for several
"""

from __future__ import annotations

import re

from jobs.paths import AttemptPaths, JobPaths, write_atomically
from orchestrator import policy
from orchestrator.ledger import JobStatus

#: What a scheduler makes names of; anything else is not handed back to one.
_NAMES = re.compile(r"[\w.\-\[\],]+")


def note(attempt: AttemptPaths, names: str) -> None:
    """Write down which nodes failed under an attempt."""
    write_atomically(attempt.failed_nodes, f"{names}\n".encode())


def of_job(paths: JobPaths) -> tuple[str, ...]:
    """Return the nodes that failed under a job's attempts, oldest first."""
    found: list[str] = []
    for attempt in paths.attempts():
        try:
            names = attempt.failed_nodes.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            continue
        if _NAMES.fullmatch(names):
            found.append(names)
    return tuple(dict.fromkeys(found))


def seen(status: JobStatus) -> tuple[str, ...]:
    """Return the nodes that a scheduler names for a job's last end, where that kind of end is one to leave them out for."""
    named = status.sighting.node if status.sighting is not None else ""
    if status.failure is None or not policy.rule(status.failure).exclude_node or not _NAMES.fullmatch(named):
        return ()
    return (named,)
