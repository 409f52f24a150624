"""What people ask a scheduler besides running jobs: why one waits, when it would start, what was used, whether the site is in order.

A backend says in its capabilities which package of backends has the module `scheduler` with `make(cluster) -> Scheduler`. Where none has,
whoever asks says less.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jobs.paths import RunPaths
from jobs.spec import Json
from orchestrator import intents
from orchestrator.backends import base
from orchestrator.backends.base import Queued
from orchestrator.checks import Check
from orchestrator.errors import BackendError
from orchestrator.intents import Intent
from orchestrator.model import ClusterConfig, Partition, Plan
from orchestrator.sightings import Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a job waits."""

    #: The scheduler's own word.
    reason: str
    #: The same for people.
    why: str
    #: What would help; empty where nothing but time does.
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When the scheduler would start allocations that ask for the same."""

    #: What is asked for, in words.
    asked: str
    allocations: int
    #: Local time, `2026-03-01 14:00`; empty where the scheduler says none.
    when: str = ""
    #: What the scheduler said instead.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When the work of a plan would start."""

    starts: tuple[Start, ...] = ()
    #: Why less is said than could be.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the allocations of one phase asked for and used; hours of wall time, megabytes of a node."""

    phase: str
    stages: str
    #: Allocations, and how often one was started: a requeue is a further run.
    allocations: int
    runs: int
    gpu_hours: float
    #: In runs that ended otherwise than well, by the scheduler's word for the end.
    lost_gpu_hours: float
    lost_runs: Mapping[str, int]
    memory_asked_mb: int | None
    memory_used_mb: int | None
    hours_asked: float | None
    #: The longest run that ended well.
    hours_used: float | None
    #: What to write next time, one sentence each.
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What a sweep asked for and used."""

    rows: tuple[Used, ...] = ()
    gpu_hours: float = 0.0
    #: Why less is said than could be.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a machine's scheduler says of itself, for a first cluster config."""

    #: Partitions that take jobs, the default one first.
    partitions: tuple[Partition, ...] = ()
    #: Accounts that this user may charge, the default one first.
    accounts: tuple[str, ...] = ()
    #: Types of GPU that a job can ask for by name.
    gpu_types: tuple[str, ...] = ()
    array_size: int | None = None
    accounting: bool = True


class Scheduler(Protocol):
    """Somebody who keeps a queue."""

    def explain_wait(self, reason: str, native: str = "") -> Waiting:
        """Say in words why a job waits; a reason that is not known is shown as it is."""
        ...

    def brake(self, run: RunPaths, sweep: str) -> str:
        """Return what keeps jobs of a sweep from starting though the queue would let them; empty when nothing does."""
        ...

    def outputs(self, run: RunPaths, intent: Intent, job: str) -> list[Path]:
        """Return the files that hold what the allocations of a job printed, oldest first."""
        ...

    def forecast(self, sweep: str, jobs: Sequence[Queued]) -> Forecast:
        """Ask when jobs would start if they were submitted now, in a handful of calls. Raises BackendError for one that fits nowhere."""
        ...

    def who_acts(self) -> tuple[tuple[str, str], ...]:
        """Return who does what when the client has gone: who, and what they do."""
        ...

    def gpu_hours(self, run: RunPaths, sweep: str) -> float:
        """Return the GPU-hours that a sweep has used so far."""
        ...

    def over_budget(self, run: RunPaths, sweep: str) -> str:
        """Say that a sweep's budget is used up; empty when it is not."""
        ...

    def tell_at_the_end(self, run: RunPaths, sweep: str) -> str:
        """Have the cluster tell people when all that is queued of a sweep has ended, as its config says. Returns who does that.

        It is empty where nobody does. Raises BackendError when it does not answer or refuses.
        """
        ...

    def efficiency(self, run: RunPaths, plan: Plan) -> Efficiency:
        """Compare what the allocations of a plan asked for with what they used, in one call."""
        ...

    def examine(self, *, deep: bool) -> Iterator[Check]:
        """Look at the site: commands, partitions, account, limits, the run root; `deep` also runs a job of a minute."""
        ...


def sites() -> dict[str, Site]:
    """Return what the schedulers of this machine say of themselves, by backend; nothing where there is none, or none that answers."""
    found: dict[str, Site] = {}
    for backend in base.available():
        name = f"{base.__package__}.{backend}"
        if hasattr(importlib.import_module(name), "__path__") and importlib.util.find_spec(f"{name}.site") is not None:
            with contextlib.suppress(BackendError):
                found[backend] = importlib.import_module(f"{name}.site").read_site()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a scheduler said of every submitted job, or why it said nothing."""

    sightings: Mapping[str, Sighting] | None = None
    #: Why nothing is known beyond the files; empty when it answered, and where there is none to ask.
    silence: str = ""


def of(cluster: ClusterConfig) -> Scheduler | None:
    """Return who keeps a cluster's queue; None where nobody does. Raises BackendError for a backend that is none."""
    package = base.load(cluster).capabilities.scheduler
    return importlib.import_module(f"{base.__package__}.{package}.scheduler").make(cluster) if package else None


def ask(run: RunPaths, cluster: ClusterConfig) -> Answer:
    """Ask a cluster's scheduler, once, where every submitted job of a run root stands. Raises nothing: silence is an answer too."""
    backend = base.load(cluster)
    if not backend.capabilities.detaches:
        return Answer()
    found = [held.intent for held in intents.open_intents(run) if held.intent.native is not None]
    try:
        seen = backend.poll(run, found)
    except BackendError as error:
        return Answer(silence=str(error))
    return Answer(sightings=seen, silence="" if seen is not None else "the scheduler does not answer; try again in a minute")


def waiting_json(waiting: Waiting) -> dict[str, Json]:
    """Return why a job waits for machines."""
    return {"reason": waiting.reason, "why": waiting.why, "then": waiting.then}
