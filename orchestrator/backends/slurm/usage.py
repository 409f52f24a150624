"""GPU-hours that a sweep has used: one empty file an allocation, whose name says how long, so that one listing tells them all.

RUN_ROOT/sweeps/<sweep>/usage/<sid12>-<index>-<restart>@<seconds x GPUs>
"""

from __future__ import annotations

import contextlib
import os
import time
from types import TracebackType

from jobs.paths import RunPaths
from orchestrator.intents import Intent

_SECONDS_AN_HOUR = 3600.0


class Meter:
    """Count one allocation's GPU-seconds while it runs."""

    def __init__(self, run: RunPaths, intent: Intent, index: int, restart: int) -> None:
        self._folder = run.sweep(intent.sweep).usage
        self._stem = f"{intent.sid[:12]}-{index}-{restart}"
        self._gpus = float(intent.terms.get("gpus", 0))
        self._begun = time.monotonic()
        self._name = ""

    def __enter__(self) -> Meter:
        self.note()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.note()

    def note(self) -> None:
        """Write down what was used so far."""
        if not self._gpus:
            return
        name = f"{self._stem}@{round((time.monotonic() - self._begun) * self._gpus)}"
        if name == self._name:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._name:
                (self._folder / self._name).rename(self._folder / name)
            else:
                (self._folder / name).touch()
            self._name = name


def gpu_hours(run: RunPaths, sweep: str) -> float:
    """Return the GPU-hours that a sweep's allocations have used so far."""
    try:
        names = os.listdir(run.sweep(sweep).usage)
    except FileNotFoundError:
        return 0.0
    return sum(int(name.rpartition("@")[2]) for name in names if name.rpartition("@")[2].isdigit()) / _SECONDS_AN_HOUR
