"""From jobs to arrays: what shares an allocation, what shares an array, and what waits for what. Pure.

`units` joins jobs that run one after the other; `groups` puts units in arrays. Here an array becomes parts no longer than the site's arrays
may be, and each part gets what it waits for. Where every element has parents of its own, element i waits for element i alone
(`aftercorr`). Where all wait for the same elements, they wait for just those (`afterok`). What fits neither waits for whole arrays to end
in any way (`afterany`): the guard in front of every job then lets start what may. That guard also stands behind the others: Slurm forgets
ended jobs, and a wait for a forgotten one is no wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from jobs.spec import Resources
from orchestrator.backends.base import Element, Need, Part, Queued
from orchestrator.backends.slurm.groups import Group, group
from orchestrator.backends.slurm.units import Unit, units_of

#: A script names no more single elements than this that it waits for. Slurm looks at each of them again and again.
LISTED_AT_MOST = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parts of a submission with the resources of one element of each, parents first."""

    parts: tuple[Part, ...]
    resources: tuple[Resources, ...]
    units: tuple[tuple[Unit, ...], ...]


def lay_out(jobs: Sequence[Queued], *, array_size: int, canary: int = 0) -> Layout:
    """Arrange jobs, parents before children, into arrays no longer than `array_size`; arrays of `canary` units and more have a canary."""
    units = units_of(jobs, canary=canary)
    table = _Table(array_size=array_size, canaries={unit.kind: unit for unit in units if unit.is_canary})
    for one in group(units):
        table.add(one)
    return Layout(
        parts=tuple(table.parts),
        resources=tuple(units[0].asked for units in table.rows),
        units=tuple(tuple(row) for row in table.rows),
    )


@dataclass(slots=True, kw_only=True)
class _Table:
    """Where units stand: the parts of each group, and each unit's part and element."""

    array_size: int
    canaries: Mapping[object, Unit]
    parts: list[Part] = field(default_factory=list)
    rows: list[list[Unit]] = field(default_factory=list)
    of_group: dict[int, list[int]] = field(default_factory=dict)
    #: Part and element by the unit's number.
    of_unit: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, one: Group) -> None:
        """Make the parts of a group; the groups that it waits for have theirs."""
        pack = one.units[0].asked.pack
        numbers = self.of_group[id(one)] = []
        for start in range(0, len(one.units), self.array_size * pack):
            row = one.units[start : start + self.array_size * pack]
            lanes = [row[first : first + pack] for first in range(0, len(row), pack)]
            needs = dict.fromkeys(self._plain(need) for need in self._needs(one, row, len(numbers)))
            elements: tuple[Element, ...] = tuple(tuple(tuple(job.spec.job_id for job in unit.jobs) for unit in lane) for lane in lanes)
            numbers.append(len(self.parts))
            self.of_unit.update((unit.number, (len(self.parts), index)) for index, lane in enumerate(lanes) for unit in lane)
            self.parts.append(Part(elements=elements, needs=tuple(needs)))
            self.rows.append(row)

    def _needs(self, one: Group, row: Sequence[Unit], number: int) -> Iterator[Need]:
        """Yield what the part of a group with this number waits for."""
        yield from (Need(kind="aftercorr", part=self.of_group[id(other)][number]) for other in one.follows if other is not None)
        left = [place for place, other in enumerate(one.follows) if other is None]
        inside = {tuple(self.of_unit[unit.parents[place].number] for place in left) for unit in row}
        if len(inside) == 1:
            yield from self._elements(next(iter(inside)))
        else:
            yield from (Need(kind="afterany", part=part) for part in sorted({part for places in inside for part, _ in places}))
        outside = {unit.waits_for: None for unit in row}
        if len(outside) == 1:
            for place in next(iter(outside)):
                yield Need(kind="afterany" if place.is_shared else "afterok", native=place.native, index=place.index)
        else:
            natives = dict.fromkeys(place.native for places in outside for place in places)
            yield from (Need(kind="afterany", native=native) for native in natives)
        canary = self.canaries.get(one.units[0].kind)
        if canary is not None and not one.has_canary:
            yield from self._elements([self.of_unit[canary.number]])

    def _elements(self, places: Sequence[tuple[int, int]]) -> Iterator[Need]:
        """Yield needs of single elements; of the whole array where that is shorter."""
        places = list(dict.fromkeys(places))
        counts = Counter(part for part, _ in places)
        whole = {part for part, count in counts.items() if count == len(self.parts[part].elements)}
        listed = sum(count for part, count in counts.items() if part not in whole)
        if listed > LISTED_AT_MOST:
            yield from (Need(kind=self._kind(part) if part in whole else "afterany", part=part) for part in counts)
            return
        yield from (Need(kind=self._kind(part), part=part) for part in counts if part in whole)
        yield from (Need(kind=self._kind(part), part=part, index=index) for part, index in places if part not in whole)

    def _kind(self, part: int) -> str:
        """Return how to wait for elements of a part: one with several lanes fails with any of them, and not all wait for that one."""
        return "afterany" if any(len(lanes) > 1 for lanes in self.parts[part].elements) else "afterok"

    def _plain(self, need: Need) -> Need:
        """Return a need of a part that is no array in the words for one: it has no elements to name."""
        if need.part is None or len(self.parts[need.part].elements) > 1:
            return need
        return replace(need, index=None, kind="afterok" if need.kind == "aftercorr" else need.kind)
