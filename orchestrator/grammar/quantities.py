"""Amounts of memory and of time, as people write them to a scheduler."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.documents import Node
from orchestrator.grammar.faults import Faults
from orchestrator.grammar.shapes import Schema, expected

_MEMORY = re.compile(r"(?P<amount>[1-9][0-9]*)(?P<unit>[MGT])B?")
_MEGABYTES = {"M": 1, "G": 1024, "T": 1024 * 1024}
_CLOCK = re.compile(r"(?:(?P<days>[0-9]+)-)?(?P<hours>[0-9]{1,3}):(?P<minutes>[0-5][0-9]):(?P<seconds>[0-5][0-9])")
_PARTS = re.compile(r"(?:(?P<days>[0-9]+)d)?(?:(?P<hours>[0-9]+)h)?(?:(?P<minutes>[0-9]+)m)?")


def memory_mb(text: object) -> int | None:
    """Read `32G`, `500M` or `1T` as mebibytes; None when it is no amount of memory."""
    found = _MEMORY.fullmatch(text) if isinstance(text, str) else None
    return int(found["amount"]) * _MEGABYTES[found["unit"]] if found else None


def time_minutes(value: object) -> int | None:
    """Read `12h`, `1d12h`, `30m`, `1-12:00:00`, `12:00:00` or a number of minutes as minutes, rounded up; None when it is no time."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value > 0 else None
    if not isinstance(value, str) or not value:
        return None
    found = _CLOCK.fullmatch(value) or _PARTS.fullmatch(value)
    if found is None:
        return None
    part = {name: int(number) for name, number in found.groupdict().items() if number}
    minutes = part.get("days", 0) * 1440 + part.get("hours", 0) * 60 + part.get("minutes", 0) + (part.get("seconds", 0) > 0)
    return minutes or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """An amount of memory with its unit."""

    words: str = "an amount of memory such as 32G or 500M"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no amount of memory."""
        if memory_mb(node.value) is None:
            unit = f"; write {node.value}G or {node.value}M" if isinstance(node.value, int) and not isinstance(node.value, bool) else ""
            faults.add(node, expected(self, node) + unit)

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        return {"type": "string", "pattern": "^" + re.sub(r"\?P<\w+>", "", _MEMORY.pattern) + "$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A length of time."""

    words: str = "a time such as 30m, 12h, 1-12:00:00 or a number of minutes"

    def check(self, node: Node, faults: Faults) -> None:
        """Record a value that is no length of time."""
        if time_minutes(node.value) is None:
            faults.add(node, expected(self, node))

    def schema(self) -> Schema:
        """Return the shape as JSON Schema."""
        patterns = [re.sub(r"\?P<\w+>", "", pattern.pattern) for pattern in (_CLOCK, _PARTS)]
        return {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^(?:{'|'.join(patterns)})$", "minLength": 1}]}
