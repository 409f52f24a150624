"""GPU-hours that a sweep has used: one empty file an allocation, whose name says how long, so that one listing tells them all.

RUN_ROOT/sweeps/<sweep>/usage/<sid12>-<index>-<restart>@<seconds x GPUs>
"""

from __future__ import annotations

import contextlib
import os
import time
from types import TracebackType

from jobs.paths import RunPaths
from orchestrator.backends.slurm.allocation import Allocation

_SECONDS_AN_HOUR = 3600.0
#: Seconds between two looks at what a sweep has used: the more is left of its budget, the longer.
_SOONEST, _LATEST = 5.0, 60.0
#: So many allocations like this one may run at once before the budget can be overrun between two looks.
_SIDE_BY_SIDE = 64


class Meter:
    """Count one allocation's GPU-seconds while it runs; of several processes the first counts for all."""

    def __init__(self, allocation: Allocation) -> None:
        intent = allocation.intent
        self._folder = allocation.run.sweep(intent.sweep).usage
        self._stem = f"{intent.sid[:12]}-{allocation.index}-{allocation.restart}"
        self._gpus = float(intent.terms.get("gpus", 0)) if allocation.is_first else 0.0
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


class Budget:
    """Look now and then whether a sweep's GPU-hours are used up."""

    def __init__(self, allocation: Allocation) -> None:
        self._run, self._sweep = allocation.run, allocation.intent.sweep
        terms = allocation.intent.terms
        self._hours, self._gpus = terms.get("gpu_hours"), float(terms.get("gpus", 0))
        self._due = time.monotonic()
        self._said = ""

    def look(self) -> str:
        """Say that the GPU-hours are used up; empty while they are not."""
        if self._hours is None or self._said or time.monotonic() < self._due:
            return self._said
        used = gpu_hours(self._run, self._sweep)
        self._said = used_up(used, float(self._hours))
        left = (float(self._hours) - used) * _SECONDS_AN_HOUR / max(self._gpus, 1.0)
        self._due = time.monotonic() + min(max(left / _SIDE_BY_SIDE, _SOONEST), _LATEST)
        return self._said


def gpu_hours(run: RunPaths, sweep: str) -> float:
    """Return the GPU-hours that a sweep's allocations have used so far."""
    try:
        names = os.listdir(run.sweep(sweep).usage)
    except FileNotFoundError:
        return 0.0
    return sum(int(name.rpartition("@")[2]) for name in names if name.rpartition("@")[2].isdigit()) / _SECONDS_AN_HOUR


def used_up(used: float, budget: float) -> str:
    """Say that so many used GPU-hours are all of a budget; empty when they are not."""
    if used < budget:
        return ""
    return f"{used:.3g} of {budget:g} GPU-hours are used; raise `limits: {{gpu_hours: ...}}` of the cluster config and submit again"
