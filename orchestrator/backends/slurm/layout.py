"""From jobs to arrays: what shares an allocation, what shares an array, and what waits for what. Pure.

A **unit** is what runs one after the other in one lane: train, pick and evaluate of one point are fused where nothing else hangs between
them. A **group** is units that ask for the same; it becomes arrays. Where every unit of a group has its own parents, the parents are put in
arrays of the same order, so that element i waits for element i alone (`aftercorr`). Units with the same parents wait for just those
elements (`afterok`). What fits neither waits for whole arrays to end in any way (`afterany`): the guard in front of every job then lets
start what may. That guard also stands behind the others: Slurm forgets ended jobs, and a wait for a forgotten one is no wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from jobs.spec import Resources, Stage
from orchestrator.backends.base import Element, Need, Part, Queued
from orchestrator.intents import Place

#: Minutes that an evaluation asks for when it shares an allocation: it only runs forwards.
EVALUATE_MINUTES = 60
#: With more different sets of parents than this, a group waits for whole arrays.
SETS_AT_MOST = 24


@dataclass(slots=True, eq=False, kw_only=True)
class Unit:
    """Jobs that run one after the other in one lane, first to last."""

    jobs: list[Queued]
    parents: list[Unit] = field(default_factory=list)
    children: list[Unit] = field(default_factory=list)
    level: int = 0
    #: Index of the canary that it descends from, or is; None for all others.
    canary: int | None = None

    @property
    def waits_for(self) -> tuple[Place, ...]:
        """Return the elements of earlier submissions that it waits for."""
        return tuple(dict.fromkeys(place for job in self.jobs for place in job.waits_for))

    @property
    def kind(self) -> tuple[str, tuple[Stage, ...]]:
        """Return what its jobs are: phase and stages."""
        return self.jobs[0].spec.phase, tuple(job.spec.stage for job in self.jobs)

    @property
    def resources(self) -> Resources:
        """Return what it asks for: the longest wish of each kind, and the sum of the times."""
        asked = [_asked(job, fused=len(self.jobs) > 1) for job in self.jobs]
        return Resources(
            gpus=max(one.gpus for one in asked),
            cpus=max(one.cpus for one in asked),
            memory_mb=max(one.memory_mb for one in asked),
            time_minutes=sum(one.time_minutes for one in asked),
            nodes=max(one.nodes for one in asked),
            pack=max(one.pack for one in asked),
        )


def _asked(job: Queued, *, fused: bool) -> Resources:
    if fused and job.spec.stage is Stage.EVALUATE:
        return replace(job.resources, time_minutes=min(job.resources.time_minutes, EVALUATE_MINUTES))
    return job.resources


@dataclass(slots=True, eq=False, kw_only=True)
class Group:
    """Units of one kind that ask for the same, in the order of the array that they become."""

    units: list[Unit]
    #: Groups whose element i this one's element i waits for.
    follows: list[Group] = field(default_factory=list)

    @property
    def resources(self) -> Resources:
        """Return what each of its units asks for."""
        return self.units[0].resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parts of a submission with the resources of one element of each, parents first."""

    parts: tuple[Part, ...]
    resources: tuple[Resources, ...]
    units: tuple[tuple[Unit, ...], ...]


def lay_out(jobs: Sequence[Queued], *, array_size: int, canary: int = 0) -> Layout:
    """Arrange jobs, parents before children, into arrays no longer than `array_size`; arrays of `canary` units and more have a canary."""
    units = fuse(jobs)
    _send_canaries(units, canary)
    return _place(group(units), units, array_size)


# --- units -------------------------------------------------------------------------------------------------------------------------------


def fuse(jobs: Sequence[Queued]) -> list[Unit]:
    """Join chains of one phase: a pick to the only train job it chooses from, an evaluation to the pick it follows."""
    here = {job.spec.job_id for job in jobs}
    unit_of: dict[str, Unit] = {}
    units: list[Unit] = []
    children: defaultdict[str, list[Queued]] = defaultdict(list)
    for job in jobs:
        for upstream in dict.fromkeys(item.job for item in job.spec.inputs):
            children[upstream].append(job)
    for job in jobs:
        upstream = [item for item in dict.fromkeys(item.job for item in job.spec.inputs) if item in here]
        host = _host(job, upstream, unit_of, children)
        if host is None:
            host = Unit(jobs=[], parents=list({id(unit_of[item]): unit_of[item] for item in upstream}.values()))
            host.level = max((parent.level + 1 for parent in host.parents), default=0)
            units.append(host)
        host.jobs.append(job)
        unit_of[job.spec.job_id] = host
    for unit in units:
        for parent in unit.parents:
            parent.children.append(unit)
    return units


def _host(job: Queued, upstream: Sequence[str], unit_of: Mapping[str, Unit], children: Mapping[str, Sequence[Queued]]) -> Unit | None:
    """Return the unit that a job joins; None when it begins one."""
    if not job.resources.fuse or job.spec.stage is Stage.TRAIN or len(upstream) != 1 or len({i.job for i in job.spec.inputs}) != 1:
        return None
    host = unit_of[upstream[0]]
    parent = next(one for one in host.jobs if one.spec.job_id == upstream[0])
    siblings = [one for one in children[upstream[0]] if one.spec.phase == job.spec.phase]
    if parent.spec.phase != job.spec.phase:
        return None
    # A pick joins its train job where that has nothing else to be picked for; every evaluation of a pick runs after it.
    alone = job.spec.stage is Stage.EVALUATE and parent.spec.stage is Stage.PICK
    return host if alone or len(siblings) == 1 else None


def _send_canaries(units: Sequence[Unit], least: int) -> None:
    """Mark the shortest unit of every long row of train jobs, of which nothing has succeeded yet, and what descends from it alone."""
    if least < 1:
        return
    rows: defaultdict[tuple[object, ...], list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.jobs[0].spec.stage is Stage.TRAIN and not unit.jobs[0].proven:
            rows[unit.kind].append(unit)
    for number, row in enumerate(rows.values()):
        if len(row) >= least:
            min(row, key=_length).canary = number
    for unit in units:
        for child in unit.children:
            if unit.canary is not None and child.canary is None and child.kind[0] == unit.kind[0]:
                child.canary = unit.canary


def _length(unit: Unit) -> float:
    """Return how much of the data a unit trains on, by its labels: the least is the shortest."""
    labels = unit.jobs[0].spec.labels
    sizes = [value for name in ("fraction", "count") if isinstance(value := labels.get(name), (int, float))]
    return float(sizes[0]) if sizes else 0.0


# --- groups ------------------------------------------------------------------------------------------------------------------------------


def group(units: Sequence[Unit]) -> list[Group]:
    """Put units of one kind together, from the last level to the first, so that parents can take the order of their children."""
    claimed: dict[int, Group] = {}
    groups: list[Group] = []
    for level in range(max((unit.level for unit in units), default=-1), -1, -1):
        rows: defaultdict[object, list[Unit]] = defaultdict(list)
        for unit in units:
            if unit.level == level and id(unit) not in claimed:
                rows[unit.kind, unit.resources, len(unit.parents), unit.canary].append(unit)
        fresh = [one for row in rows.values() for one in _split(row, claimed)]
        for one in [*fresh, *(g for g in groups if g.units[0].level == level and g not in fresh)]:
            slots = _slots(one, claimed)
            for slot in slots:
                parents = Group(units=slot)
                claimed.update((id(unit), parents) for unit in slot)
                one.follows.append(parents)
                groups.append(parents)
        groups += fresh
    return sorted(groups, key=lambda one: one.units[0].level)


def _split(row: list[Unit], claimed: Mapping[int, Group]) -> list[Group]:
    """Keep a row together when its parents can take its order, or when it waits for nothing; else split it by what it waits for."""
    whole = Group(units=row)
    if _slots(whole, claimed) or not any(unit.parents or unit.waits_for for unit in row):
        return [whole]
    sets: defaultdict[object, list[Unit]] = defaultdict(list)
    for unit in row:
        sets[tuple(sorted(map(id, unit.parents))), unit.waits_for].append(unit)
    return [Group(units=units) for units in sets.values()] if len(sets) <= SETS_AT_MOST else [whole]


def _slots(one: Group, claimed: Mapping[int, Group]) -> list[list[Unit]]:
    """Return the parents of a group as rows in its order; nothing when they cannot be so arranged."""
    count = len(one.units[0].parents)
    if not count or any(len(unit.parents) != count or unit.waits_for for unit in one.units):
        return []
    slots = [[unit.parents[place] for unit in one.units] for place in range(count)]
    everyone = [parent for slot in slots for parent in slot]
    if len({id(parent) for parent in everyone}) < len(everyone) or any(id(parent) in claimed for parent in everyone):
        return []
    if any(len(parent.children) != 1 or parent.waits_for or parent.resources.pack > 1 for parent in everyone) or one.resources.pack > 1:
        return []
    if len(one.units) == 1 and count > 1:
        # One unit with many parents: no order to take, and an array of one for each would be many calls.
        return []
    same = all(
        (parent.kind, parent.resources, parent.canary, parent.level) == (slot[0].kind, slot[0].resources, slot[0].canary, slot[0].level)
        for slot in slots
        for parent in slot
    )
    return slots if same else []


# --- parts -------------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Placed:
    """Where units stand: the parts of each group, and each unit's part and element."""

    of_group: dict[int, list[int]] = field(default_factory=dict)
    of_unit: dict[int, tuple[int, int]] = field(default_factory=dict)


def _place(groups: Sequence[Group], units: Sequence[Unit], array_size: int) -> Layout:
    parts: list[Part] = []
    asked: list[Resources] = []
    rows: list[tuple[Unit, ...]] = []
    placed = _Placed()
    canaries = {unit.canary: unit for unit in units if unit.canary is not None and not any(p.canary == unit.canary for p in unit.parents)}
    # A canary goes before those that wait for it, and its parents before both.
    for one in sorted(groups, key=lambda g: (g.units[0].level, g.units[0].canary is None)):
        placed.of_group[id(one)] = []
        for number, chunk in enumerate(_chunks(_elements(one), array_size)):
            needs = [*_needs(one, chunk, number, placed), *_canary_needs(one, canaries, placed)]
            placed.of_group[id(one)].append(len(parts))
            for index, lanes in enumerate(chunk):
                placed.of_unit.update((id(unit), (len(parts), index)) for unit in lanes)
            elements: tuple[Element, ...] = tuple(tuple(tuple(job.spec.job_id for job in unit.jobs) for unit in lanes) for lanes in chunk)
            parts.append(Part(elements=elements, needs=tuple(dict.fromkeys(_plain(need, parts) for need in needs))))
            asked.append(one.resources)
            rows.append(tuple(unit for lanes in chunk for unit in lanes))
    return Layout(parts=tuple(parts), resources=tuple(asked), units=tuple(rows))


def _elements(one: Group) -> list[list[Unit]]:
    """Return the lanes of each element: as many units side by side as `pack` says."""
    pack = one.resources.pack
    rest = iter(one.units)
    return list(iter(lambda: list(islice(rest, pack)), []))


def _chunks(elements: Sequence[list[Unit]], size: int) -> Iterator[list[list[Unit]]]:
    for start in range(0, len(elements), size):
        yield list(elements[start : start + size])


def _needs(one: Group, chunk: Sequence[Sequence[Unit]], number: int, placed: _Placed) -> list[Need]:
    if one.follows:
        return [Need(kind="aftercorr", part=placed.of_group[id(parents)][number]) for parents in one.follows]
    units = [unit for lanes in chunk for unit in lanes]
    inside = {tuple(id(parent) for parent in unit.parents) for unit in units}
    outside = {unit.waits_for for unit in units}
    if len(inside) == 1 and len(outside) == 1 and len(inside | outside) <= SETS_AT_MOST:
        parents = [Need(kind="afterok", part=part, index=index) for part, index in (placed.of_unit[key] for key in next(iter(inside)))]
        return [*parents, *(Need(kind="afterok", native=place.native, index=place.index) for place in next(iter(outside)))]
    arrays = dict.fromkeys(placed.of_unit[key][0] for keys in inside for key in keys)
    natives = dict.fromkeys(place.native for places in outside for place in places)
    return [*(Need(kind="afterany", part=part) for part in arrays), *(Need(kind="afterany", native=native) for native in natives)]


def _plain(need: Need, parts: Sequence[Part]) -> Need:
    """Return a need of a part that is no array in the words for one: it has no elements to name."""
    if need.part is None or len(parts[need.part].elements) > 1:
        return need
    return replace(need, index=None, kind="afterok" if need.kind == "aftercorr" else need.kind)


def _canary_needs(one: Group, canaries: Mapping[int, Unit], placed: _Placed) -> list[Need]:
    """Let a row wait for the canary of its own kind."""
    first = one.units[0]
    if first.canary is not None:
        return []
    for canary in canaries.values():
        if canary.kind == first.kind:
            part, index = placed.of_unit[id(canary)]
            return [Need(kind="afterok", part=part, index=index)]
    return []
