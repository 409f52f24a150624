"""Units of a submission: jobs that run one after the other in one lane, and who waits for whom. Pure.

Train, pick and evaluate of one point become one unit where nothing else hangs between them: what waits for a unit waits for all of it, and
falls with any of its jobs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.spec import Resources, Stage
from orchestrator.backends.base import Queued
from orchestrator.intents import Place

#: Minutes that an evaluation asks for when it shares an allocation: it only runs forwards.
EVALUATE_MINUTES = 60


@dataclass(slots=True, eq=False, kw_only=True)
class Unit:
    """Jobs that run one after the other in one lane, first to last."""

    jobs: list[Queued]
    parents: list[Unit] = field(default_factory=list)
    level: int = 0
    #: Where it stands among the units of its submission.
    number: int = 0
    #: The rest of its row waits for it.
    is_canary: bool = False
    #: What it asks for, once its jobs are known.
    asked: Resources = field(default_factory=Resources)

    @property
    def waits_for(self) -> tuple[Place, ...]:
        """Return the elements of earlier submissions that it waits for."""
        return tuple(dict.fromkeys(place for job in self.jobs for place in job.waits_for))

    @property
    def leaves_out(self) -> tuple[str, ...]:
        """Return the nodes that failed under any of its jobs."""
        return tuple(sorted({node for job in self.jobs for node in job.leaves_out}))

    @property
    def kind(self) -> tuple[str, tuple[Stage, ...]]:
        """Return what its jobs are: phase and stages."""
        return self.jobs[0].spec.phase, tuple(job.spec.stage for job in self.jobs)


def units_of(jobs: Sequence[Queued], *, canary: int = 0) -> list[Unit]:
    """Make units of jobs, parents before children; a row of `canary` units and more has one that goes first."""
    units = fuse(jobs)
    _send_canaries(units, canary)
    return units


def fuse(jobs: Sequence[Queued]) -> list[Unit]:
    """Join chains of one phase: a pick to the only train job it chooses from, an evaluation to the pick it follows."""
    here = {job.spec.job_id: job for job in jobs}
    needed = {job: list(dict.fromkeys(item.job for item in queued.spec.inputs)) for job, queued in here.items()}
    children: defaultdict[str, list[Queued]] = defaultdict(list)
    for job, inputs in needed.items():
        for upstream in inputs:
            children[upstream].append(here[job])
    unit_of: dict[str, Unit] = {}
    units: list[Unit] = []
    for job, queued in here.items():
        upstream = [here[item] for item in needed[job] if item in here]
        if len(needed[job]) == len(upstream) == 1 and _continues(queued, upstream[0], children[upstream[0].spec.job_id]):
            host = unit_of[upstream[0].spec.job_id]
        else:
            parents = list({id(unit): unit for unit in (unit_of[item.spec.job_id] for item in upstream)}.values())
            host = Unit(jobs=[], parents=parents, number=len(units))
            host.level = max((parent.level + 1 for parent in parents), default=0)
            units.append(host)
        host.jobs.append(queued)
        unit_of[job] = host
    for unit in units:
        unit.asked = _asked_by(unit.jobs)
    return units


def _continues(job: Queued, before: Queued, siblings: Sequence[Queued]) -> bool:
    """Tell whether a job runs in the allocation of the only one that it waits for."""
    if not job.resources.fuse or job.spec.stage is Stage.TRAIN or job.spec.phase != before.spec.phase:
        return False
    if job.spec.stage is Stage.EVALUATE:
        # Evaluations of one choice run one after the other; were anything else to wait for the choice, it would wait for them too.
        return all(one.spec.stage is Stage.EVALUATE and one.spec.phase == job.spec.phase for one in siblings)
    return len(siblings) == 1


def _asked_by(jobs: Sequence[Queued]) -> Resources:
    """Return what jobs ask for that run one after the other: the most of each kind, and the sum of the times."""
    asked = [job.resources if len(jobs) == 1 else _in_company(job) for job in jobs]
    return Resources(
        gpus=max(one.gpus for one in asked),
        cpus=max(one.cpus for one in asked),
        memory_mb=max(one.memory_mb for one in asked),
        time_minutes=sum(one.time_minutes for one in asked),
        nodes=max(one.nodes for one in asked),
        pack=max(one.pack for one in asked),
    )


def _in_company(job: Queued) -> Resources:
    if job.spec.stage is Stage.EVALUATE:
        return replace(job.resources, time_minutes=min(job.resources.time_minutes, EVALUATE_MINUTES))
    return job.resources


def _send_canaries(units: Sequence[Unit], least: int) -> None:
    """Mark the shortest of the first units of every long row of train jobs, of which nothing has succeeded yet."""
    if least < 1:
        return
    rows: defaultdict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.jobs[0].spec.stage is Stage.TRAIN and not unit.jobs[0].proven:
            rows[unit.kind].append(unit)
    for row in rows.values():
        if len(row) >= least:
            # Only what starts as early as any of the row can keep all the others waiting.
            first = min(unit.level for unit in row)
            # One that was tried before may have failed for a reason of its own.
            min((unit for unit in row if unit.level == first), key=lambda unit: (unit.jobs[0].attempt, _length(unit))).is_canary = True


def _length(unit: Unit) -> float:
    """Return how much of the data a unit trains on, by its labels: the least is the shortest."""
    labels = unit.jobs[0].spec.labels
    sizes = [value for name in ("fraction", "count") if isinstance(value := labels.get(name), (int, float))]
    return float(sizes[0]) if sizes else 0.0


def shared_by(units: Sequence[Unit]) -> Mapping[int, int]:
    """Return how many of these units wait for each parent, by the parent's number."""
    return Counter(parent.number for unit in units for parent in unit.parents)
