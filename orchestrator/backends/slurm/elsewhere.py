"""Start again elsewhere: what an allocation does about nodes that failed under its jobs.

Slurm itself starts a job again whose node failed, and may choose that very node once it is back. So a start after a requeue looks whether
the node of the one before has failed since, and notes it. If it is on such a node itself, or is requeued later, it tells Slurm to leave
that node out. Slurm takes that of a job that waits, and of no other: right after the word to requeue it, while this process still lives.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobs.events import read_events
from jobs.paths import AttemptPaths, write_atomically
from orchestrator import failed_nodes, intents
from orchestrator.backends.slurm import commands
from orchestrator.backends.slurm.allocation import Allocation
from orchestrator.errors import BackendError
from orchestrator.ledger import has_ended

#: Words of a node's state that say that it failed; symbols behind them say more of the same node.
_FAILED = frozenset({"DOWN", "FAIL", "NOT_RESPONDING"})
_NODE = re.compile(r"NodeName=(?P<name>\S+).*?\sState=(?P<state>\S+)(?:.*?\sSlurmdStartTime=(?P<since>\S+))?")
_EXCLUDE = "--exclude="
#: The word to requeue brings SIGTERM to every process of the job, also to the one that has yet to say what to leave out.
_REQUEUE = 'trap "" TERM; scontrol requeue "$0" && scontrol update "JobId=$0" "ExcNodeList=$1"'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """What Slurm says of one node."""

    name: str
    is_down: bool
    #: When its daemon started (seconds since the epoch); 0 where Slurm does not say.
    since: float

    def failed_after(self, moment: float) -> bool:
        """Tell whether it has failed since a moment: it is down, or its daemon was started anew."""
        # Slurm tells whole seconds, and no job is up in the second in which its node's daemon starts.
        return self.is_down or self.since >= int(moment)


def hand_back(allocation: Allocation) -> bool:
    """Note which nodes failed under earlier starts, and give up a start on one of them. Returns whether Slurm starts it elsewhere."""
    if not allocation.restart or not allocation.is_first:
        return False
    try:
        _note_failures(allocation)
        failed = _failed(allocation)
        if not failed or not set(failed) & set(_hosts(allocation.nodes)):
            return False
    except BackendError as error:
        sys.stderr.write(f"not asked whether a node failed: {error}\n")
        return False
    return requeue(allocation)


def requeue(allocation: Allocation) -> bool:
    """Requeue this allocation without the nodes that failed under its jobs.

    Returns False, and has done nothing, where there are none, where they are left out already, and where nothing else could take it.
    """
    if not allocation.is_first:
        return False
    try:
        left_out = _left_out(allocation)
        wanted = list(dict.fromkeys([*left_out, *_failed(allocation)]))
        if len(wanted) == len(left_out) or not _could_start_without(allocation, wanted):
            return False
        names = ",".join(wanted)
        # First: what cannot be told to Slurm after all is not tried at every start.
        write_atomically(intents.folder(allocation.run, allocation.intent.sid) / f"{allocation.place}.left_out", f"{names}\n".encode())
        commands.run("sh", "-c", _REQUEUE, allocation.place, names)
    except BackendError as error:
        sys.stderr.write(f"not told to leave out nodes that failed: {error}\n")
        return False
    sys.stderr.write(f"requeued for another node: {names} left out\n")
    return True


def _note_failures(allocation: Allocation) -> None:
    """Note for each attempt that an earlier start left without an end which of its nodes have failed since."""
    asked: dict[str, list[_Node]] = {}
    for attempt in _cut_short(allocation):
        names, begun = _nodes_of(attempt), _begun(attempt)
        if not names or not begun:
            continue
        if names not in asked:
            asked[names] = _nodes(commands.run("scontrol", "--oneliner", "show", "node", names))
        failed = [node.name for node in asked[names] if node.failed_after(begun)]
        if failed:
            failed_nodes.note(attempt, ",".join(failed))


def _cut_short(allocation: Allocation) -> Iterator[AttemptPaths]:
    """Yield the last attempt of each job of the element that has neither a result nor an end."""
    for lane in allocation.element:
        for job in lane:
            paths = allocation.run.job(job)
            last = next((one for one in reversed(paths.attempts()) if one.claim.exists()), None)
            if last is not None and not paths.result.exists() and not has_ended(last):
                yield last


def _failed(allocation: Allocation) -> list[str]:
    """Return the names of the nodes that failed under jobs of the element which have no result yet."""
    paths = [allocation.run.job(job) for lane in allocation.element for job in lane]
    listed = dict.fromkeys(names for one in paths if not one.result.exists() for names in failed_nodes.of_job(one))
    return _hosts(",".join(listed))


def _left_out(allocation: Allocation) -> list[str]:
    """Return the names of the nodes that Slurm was told to leave out, when it was submitted or since."""
    try:
        told = (intents.folder(allocation.run, allocation.intent.sid) / f"{allocation.place}.left_out").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        told = next((word.removeprefix(_EXCLUDE) for word in _asked(allocation) if word.startswith(_EXCLUDE)), "")
    return _hosts(told)


def _could_start_without(allocation: Allocation, nodes: Sequence[str]) -> bool:
    """Ask whether any other node could take what was asked for: Slurm lets a job wait for ever that leaves out all that could."""
    words = [word for word in _asked(allocation) if not word.startswith(_EXCLUDE)]
    with commands.without_job():
        done = commands.call("sbatch", "--test-only", *words, f"{_EXCLUDE}{','.join(nodes)}", "--wrap=true")
    return bool(words) and done.returncode == 0


def _asked(allocation: Allocation) -> Sequence[str]:
    return allocation.intent.terms.get("asked", ())


# --- what Slurm and files say of nodes ---------------------------------------------------------------------------------------------------


def _hosts(listed: str) -> list[str]:
    """Return the single names of a list such as `n[1-2],m3`."""
    if "[" not in listed:
        return [name for name in listed.split(",") if name]
    return commands.run("scontrol", "show", "hostnames", listed).split()


def _nodes(told: str) -> list[_Node]:
    """Read what `scontrol show node` says, one node a line."""
    return [
        _Node(
            name=found["name"],
            is_down="*" in found["state"] or not _FAILED.isdisjoint(word.strip("*~#!%$@^-") for word in found["state"].split("+")),
            since=_seconds(found["since"] or ""),
        )
        for line in told.splitlines()
        if (found := _NODE.search(line))
    ]


def _seconds(said: str) -> float:
    try:
        return datetime.fromisoformat(said).timestamp()
    except ValueError:
        return 0.0


def _nodes_of(attempt: AttemptPaths) -> str:
    try:
        environment: Mapping[str, Mapping[str, str]] = json.loads(attempt.env.read_text(encoding="utf-8"))
        return environment["slurm"]["SLURM_JOB_NODELIST"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""


def _begun(attempt: AttemptPaths) -> float:
    events = read_events(attempt.events)
    return float(events[0]["time"]) if events else 0.0
