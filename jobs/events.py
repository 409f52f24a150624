"""Lines of `events.jsonl`: what happened to one attempt, appended by the one process that runs it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from jobs.paths import naming
from jobs.spec import EventKind, Json


def append_event(path: Path, kind: EventKind, **fields: Json) -> None:
    """Append one event with the time (seconds since the epoch) and make it durable. Raises OSError naming the file."""
    line = json.dumps({"kind": str(kind), "time": time.time(), **fields}, sort_keys=True, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_events(path: Path) -> list[dict[str, Json]]:
    """Read the events of an attempt; a torn last line, left by a kill, is not an event, nor is anything else that is not one."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    events: list[dict[str, Json]] = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "kind" in event and isinstance(event.get("time"), (int, float)):
            events.append(event)
    return events


def process_identity() -> dict[str, Json]:
    """Return what tells this process from any other on any host: host, pid and whose numbering that is, boot id, start in clock ticks."""
    me = os.getpid()
    return {"host": os.uname().nodename, "pid": me, "pids": pid_space(), "boot": boot_id(), "started": start_ticks(me)}


def pid_space() -> str:
    """Return which numbering of processes this one sees: a container has its own, perhaps under the name of its host."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def boot_id() -> str:
    """Return the kernel's id of this boot; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The command name stands in parentheses and may hold anything; state is the first field behind it, start time the twentieth.
    fields = stat.rsplit(")", 1)[-1].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(owner: dict[str, Json]) -> bool | None:
    """Tell whether a process lives; None when it cannot be seen from here: on another host, in a container, or hidden from other users."""
    if owner.get("host") != os.uname().nodename:
        return None
    pid = owner.get("pid")
    if owner.get("boot") != boot_id() or not isinstance(pid, int):
        return False
    if owner.get("pids", pid_space()) != pid_space():
        return None
    ticks = start_ticks(pid)
    if ticks is None and _is_hidden(pid):
        return None
    return ticks is not None and ticks == owner.get("started")


def _is_hidden(pid: int) -> bool:
    """Tell whether a process is another user's: a site may hide those, and then they only seem to be gone."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False
