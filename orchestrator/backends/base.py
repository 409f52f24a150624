"""What a backend is: four verbs, and its abilities as data. The core asks for abilities and never for a name.

A backend is a module `orchestrator/backends/<name>.py`, or `<name>/backend.py` of a package, with `make(cluster) -> Backend`; a cluster
config's `backend` names it.
Adding one adds a file and changes no other.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from jobs.company import processes_of
from jobs.paths import RunPaths
from jobs.spec import SHORT_ID, JobSpec, Json, Resources, State
from orchestrator.errors import BackendError
from orchestrator.intents import Held, Intent, Place
from orchestrator.model import ClusterConfig
from orchestrator.sightings import Sighting

#: Runs one job; every backend reaches it by this name, so that other processes can import it.
RUNNER = "jobs.main:run"
#: Modules of this package that are no backend.
_PARTS = frozenset({"base", "ray_own", "ray_search"})
#: How often a job may die without a word in one submission before it is left alone.
DEATHS_ALLOWED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do."""

    #: Its jobs run on after the client has gone.
    detaches: bool = False
    #: Its jobs have places of their own in a scheduler's queue, of which a site may give only so many.
    queues: bool = False
    #: It can stop jobs that lose (a phase with `search`).
    searches: bool = False
    #: It runs several jobs at once.
    parallel: bool = False
    #: The run root must be seen by several machines.
    needs_shared_fs: bool = False
    #: It enforces `resources.time_minutes` and `resources.memory_mb`.
    enforces_limits: bool = False
    #: The package here whose module `scheduler` people ask about its queue; empty where nobody keeps one.
    scheduler: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A job with what this submission asks for it."""

    spec: JobSpec
    attempt: int
    resources: Resources
    #: What its phase asks for, where a failure has raised that.
    planned: Resources | None = None
    #: Where inputs stand that an earlier submission has in a scheduler's queue.
    waits_for: tuple[Place, ...] = ()
    #: A job of its phase and stage has succeeded here before.
    proven: bool = False
    #: Nodes that failed under it, as a scheduler names them.
    leaves_out: tuple[str, ...] = ()


#: What one start of an allocation runs: lanes side by side, each of job ids one after the other.
Element: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a part waits for: an earlier part of the same submission, or an element that the scheduler already has."""

    #: `aftercorr` (element i on element i), `afterok`, `afterany`.
    kind: str
    #: Index of an earlier part; None for what was submitted before.
    part: int | None = None
    native: str = ""
    #: One element of it; None is all of them.
    index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a scheduler is given in one call: elements that ask for the same."""

    elements: tuple[Element, ...]
    needs: tuple[Need, ...] = ()
    #: What the scheduler is asked for, in its own words.
    options: Mapping[str, Json] = field(default_factory=dict)
    #: What a start of it on a node must know.
    terms: Mapping[str, Json] = field(default_factory=dict)

    @property
    def jobs(self) -> tuple[str, ...]:
        """Return its job ids."""
        return tuple(job for element in self.elements for lane in element for job in lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is about to be submitted; `text` is exactly what `--dry-run` prints."""

    backend: str
    sweep: str
    jobs: tuple[Queued, ...]
    text: str
    #: One for each call of the scheduler, parents first; none where jobs run in this process or its children.
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing that happened while a submission runs: `started`, `ended`, `again` (interrupted, tried again) or `note`."""

    kind: str
    job_id: str | None = None
    state: State | None = None
    message: str = ""


Notify = Callable[[Notice], None]


@dataclass(slots=True, kw_only=True)
class Halt:
    """A person's wish to stop: set by a signal handler, read by backends."""

    wanted: bool = False

    def want(self) -> None:
        """Ask every running job to save and stop."""
        self.wanted = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What a backend is given to run a submission."""

    run: RunPaths
    intent: Intent
    notify: Notify
    #: The intents of a submission in parts, one each.
    intents: tuple[Intent, ...] = ()
    halt: Halt = field(default_factory=Halt)
    runner: str = RUNNER


class Backend(Protocol):
    """Somewhere that jobs run."""

    @property
    def name(self) -> str:
        """Return the name that cluster configs use."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Return what it can do."""
        ...

    def render(self, sweep: str, jobs: Sequence[Queued]) -> Submission:
        """Say what would be submitted; pure. Raises BackendError for a job that this machine can never run."""
        ...

    def submit(self, submission: Submission, session: Session) -> frozenset[str]:
        """Run a submission to its end, or hand it over when the backend detaches. Returns the jobs it gave up on."""
        ...

    def poll(self, run: RunPaths, intents: Sequence[Intent]) -> Mapping[str, Sighting] | None:
        """Ask the scheduler where jobs stand, in one call for all; None when the files say it all, or nobody answers."""
        ...

    def recover(self, run: RunPaths, intents: Sequence[Held]) -> None:
        """Find out what became of submissions that have no number though their client is gone, or gave no sign of life for long."""
        ...

    def cancel(self, run: RunPaths, intent: Intent, jobs: Sequence[str]) -> None:
        """Cancel jobs of a submission; to be called under the lock."""
        ...


def load(cluster: ClusterConfig) -> Backend:
    """Import the backend that a cluster config names. Raises BackendError for a name that is none."""
    name = cluster.backend
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name not in available():
        raise BackendError(f"cluster '{cluster.name}': no backend '{name}'; backend: {' | '.join(available())}")
    module = importlib.import_module(f"{__package__}.{name}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{__package__}.{name}.backend")
    return module.make(cluster)


def available() -> tuple[str, ...]:
    """Return the names of the backends that are there."""
    package = importlib.import_module(__package__ or "orchestrator.backends")
    return tuple(sorted(item.name for item in pkgutil.iter_modules(package.__path__) if item.name not in _PARTS))


def machine_cpus(cluster: ClusterConfig) -> int:
    """Return how many CPUs jobs on this machine may share: the config's number, else those this process may use."""
    if cluster.cpus is not None:
        return cluster.cpus
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_gpus(cluster: ClusterConfig) -> int:
    """Return how many GPUs jobs on this machine may share: the config's number, else the visible ones."""
    if cluster.gpus is not None:
        return cluster.gpus
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([item for item in visible.split(",") if item.strip() and item.strip() != "-1"])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])


def refuse_oversized(jobs: Sequence[Queued], *, cpus: int, gpus: int, cluster: str) -> None:
    """Raise BackendError for the first job that asks for more than this machine has."""
    for job in jobs:
        for what, asked, there in (("cpus", job.resources.cpus, cpus), ("gpus", job.resources.gpus, gpus)):
            if asked > there:
                raise BackendError(
                    f"{job.spec.sweep}: phase '{job.spec.phase}' asks for {what}: {asked}, and cluster '{cluster}' has {there}; "
                    f"lower `resources: {{{what}: ...}}` of the phase, or set `{what}: {asked}` in the cluster config"
                )
        if processes_of(job.resources) > 1:
            raise BackendError(
                f"{job.spec.sweep}: phase '{job.spec.phase}' wants {processes_of(job.resources)} processes a job, and cluster '{cluster}' "
                "starts one; write `resources: {gpus: 1, nodes: 1}` in the phase (it is the same experiment), or choose a Slurm cluster"
            )


def listing(sweep: str, jobs: Sequence[Queued], where: str) -> str:
    """Return the lines that `--dry-run` prints on backends that run jobs themselves."""
    width = max((len(job.spec.stage) for job in jobs), default=0)
    lines = [f"# {sweep}: {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} {where}, each when its inputs are done"]
    for job in jobs:
        needs = f"cpus={job.resources.cpus}" + (f" gpus={job.resources.gpus}" if job.resources.gpus else "")
        lines.append(f"{job.spec.job_id[:SHORT_ID]} attempt {job.attempt}  {job.spec.stage:<{width}}  {needs}  {job.spec.trial}")
    return "\n".join(lines) + "\n"
