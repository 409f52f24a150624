"""One line of an examination."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was looked at, whether it is in order, and what to know or to type."""

    what: str
    ok: bool
    text: str
