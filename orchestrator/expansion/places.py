"""Faults found after loading, put back where they stand in the file."""

from __future__ import annotations

from orchestrator.errors import SweepError
from orchestrator.model import Sweep


def fault(sweep: Sweep, path: str, message: str) -> SweepError:
    """Return an error that points at a dotted path of the sweep's file, or at the nearest part of it that stands there."""
    place = sweep.source.place(path) if sweep.source is not None else None
    return SweepError(message, path=path, place=place)
