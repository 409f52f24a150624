"""Jobs that have a result, read with as few system calls as it takes: a run root may hold ten thousand, and people ask again and again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.spec import EventKind, Json

#: Kinds of event that end an attempt.
ENDS = frozenset({EventKind.SUCCEEDED, EventKind.STOPPED, EventKind.FAILED, EventKind.CANCELLED})
#: How a line of a checkpoint is told from others without reading it; a training may have written thousands.
_CHECKPOINT = f'"kind": "{EventKind.CHECKPOINTED}"'


def finished(folder: str, *, details: bool) -> dict[str, Any] | None:
    """Return what is known of a job in a folder that has a result, as fields of its state; None without one, or with an empty one.

    `details` are the last attempt with its times.
    """
    try:
        if os.stat(f"{folder}{os.sep}result.json").st_size == 0:  # noqa: PTH116 (ten thousand paths take a second)
            return None
    except FileNotFoundError:
        return None
    if not details:
        return {}
    number = last_claimed(folder)
    return {"attempt": number, **(times_of(list(_few(f"{folder}{os.sep}attempts{os.sep}{number}{os.sep}events.jsonl"))) if number else {})}


def last_claimed(folder: str) -> int:
    """Return the number of the last attempt of a job that somebody has claimed; 0 when nobody has."""
    attempts = f"{folder}{os.sep}attempts"
    try:
        numbers = sorted((int(name) for name in os.listdir(attempts) if name.isdigit()), reverse=True)
    except FileNotFoundError:
        return 0
    return next((number for number in numbers if os.path.lexists(f"{attempts}{os.sep}{number}{os.sep}claim")), 0)


def _few(file: str) -> Iterator[dict[str, Json]]:
    """Yield the events of an attempt, of its checkpoints the last alone; a torn line is no event."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            lines = opened.read().splitlines()
    except FileNotFoundError:
        return
    last = next((number for number in range(len(lines) - 1, -1, -1) if _CHECKPOINT in lines[number]), -1)
    for number, line in enumerate(lines):
        if number != last and _CHECKPOINT in line:
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "kind" in event and isinstance(event.get("time"), (int, float)):
            yield event


def times_of(events: Sequence[Mapping[str, Json]]) -> dict[str, Any]:
    """Return start, end and last checkpoint of an attempt, as far as its events tell."""
    times: dict[str, Any] = {}
    for event in events:
        kind = event.get("kind")
        if kind == EventKind.STARTED:
            times["started"] = event.get("time")
        elif kind == EventKind.CHECKPOINTED:
            times["step"], times["epoch"] = event.get("step"), event.get("epoch")
        elif kind in ENDS:
            times["ended"] = event.get("time")
    return times
