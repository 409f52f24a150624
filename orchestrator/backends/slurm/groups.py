"""Groups of units that become arrays: what asks for the same, waits in the same way, and is in the same order as what it waits for. Pure.

Going down the levels, units of one kind are told apart by what they wait for, as far as that makes few arrays. Going up, the last level
first, each group puts the parents that are its own into groups of its order, so that element i waits for element i alone. Parents with
several rows of children are in one order for all of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.backends.slurm.units import Unit, shared_by

#: A row of units of one kind is not cut into more groups than this: each is a call of sbatch, and waiting for too much costs only time.
GROUPS_AT_MOST = 24


@dataclass(slots=True, eq=False, kw_only=True)
class Group:
    """Units of one kind that ask for the same, in the order of the array that they become."""

    units: list[Unit]
    #: For each place among a unit's parents the group whose element i this one's element i waits for, if there is one.
    follows: list[Group | None] = field(default_factory=list)

    @property
    def level(self) -> int:
        """Return how many units stand one after the other before any of it."""
        return self.units[0].level

    @property
    def has_canary(self) -> bool:
        """Tell whether it is a canary, which is alone."""
        return self.units[0].is_canary


def group(units: Sequence[Unit]) -> list[Group]:
    """Put every unit in one group; groups whose units wait for others come after those."""
    kinds = _kinds(units)
    levels: defaultdict[int, list[Unit]] = defaultdict(list)
    for unit in units:
        levels[unit.level].append(unit)
    claims = _Claims(kinds)
    found: list[Group] = []
    for level in sorted(levels, reverse=True):
        rows: defaultdict[int, list[Unit]] = defaultdict(list)
        for unit in levels[level]:
            if unit.number not in claims.group_of:
                rows[kinds[unit.number]].append(unit)
        for one in claims.made[level]:
            found.append(claims.follow(one))
        for row in rows.values():
            found += [claims.follow(one) for one in _cut(claims.in_order(row))]
    # A canary goes before those that wait for it.
    return sorted(found, key=lambda one: (one.level, not one.has_canary))


# --- down: which units are of one kind ---------------------------------------------------------------------------------------------------


def _kinds(units: Sequence[Unit]) -> dict[int, int]:
    """Number the kinds, and return the kind of each unit by the unit's number."""
    rows: defaultdict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        rows[unit.level, unit.kind, unit.asked, unit.leaves_out, unit.is_canary, len(unit.parents)].append(unit)
    numbers: dict[object, int] = {}
    kinds: dict[int, int] = {}
    # Parents first: what a unit waits for is of a kind as well.
    for base, row in sorted(rows.items(), key=lambda item: item[1][0].level):
        for unit, key in zip(row, _keys(row, kinds), strict=True):
            kinds[unit.number] = numbers.setdefault((base, key), len(numbers))
    return kinds


def _keys(row: Sequence[Unit], kinds: Mapping[int, int]) -> Sequence[object]:
    """Tell units of one row apart by what they wait for, in as much detail as leaves few enough groups."""
    shared = shared_by(row)
    outside = [unit.waits_for for unit in row]
    parents = [tuple(parent.number for parent in unit.parents) for unit in row]
    of_kinds = [tuple(kinds[number] for number in numbers) for numbers in parents]
    # A parent that several wait for is itself; one that a single unit waits for can be put in that unit's order.
    exact = [
        (tuple(-1 - number if shared[number] > 1 else kinds[number] for number in numbers), places)
        for numbers, places in zip(parents, outside, strict=True)
    ]
    for keys in (exact, list(zip(of_kinds, _rounds(parents), outside, strict=True)), list(zip(of_kinds, outside, strict=True)), of_kinds):
        if len(set(keys)) <= GROUPS_AT_MOST:
            return keys
    return [()] * len(row)


def _rounds(parents: Sequence[tuple[int, ...]]) -> list[int]:
    """Number the units that wait for the same parents: the first of each, the second of each, ..."""
    seen: Counter[tuple[int, ...]] = Counter()
    rounds: list[int] = []
    for numbers in parents:
        rounds.append(seen[numbers])
        seen[numbers] += 1
    return rounds


# --- up: who takes whose order -----------------------------------------------------------------------------------------------------------


def _cut(row: list[Unit]) -> list[Group]:
    """Make a row one group; or one each, where a few units would cut their many parents into more arrays than that."""
    if len(row) <= GROUPS_AT_MOST and len(row) < _own_places(row):
        return [Group(units=[unit]) for unit in row]
    return [Group(units=row)]


def _own_places(row: Sequence[Unit]) -> int:
    """Return at how many places every unit of a row has a parent that is no other's at that place."""
    columns = zip(*(unit.parents for unit in row), strict=True)
    return sum(len({parent.number for parent in column}) == len(row) for column in columns) if len(row) > 1 else 0


class _Claims:
    """Groups that were made in the order of their children."""

    def __init__(self, kinds: Mapping[int, int]) -> None:
        self._kinds = kinds
        #: The group of a unit that is in one, by the unit's number.
        self.group_of: dict[int, Group] = {}
        #: Where in that group it is.
        self._place_of: dict[int, int] = {}
        #: The groups made, by level.
        self.made: defaultdict[int, list[Group]] = defaultdict(list)

    def in_order(self, row: Sequence[Unit]) -> list[Unit]:
        """Return a row in the order that its parents are in already, or else are submitted in."""
        return sorted(row, key=lambda unit: [self._place_of.get(parent.number, parent.number) for parent in unit.parents])

    def follow(self, one: Group) -> Group:
        """Let a group follow others of its order, where it can, and return it."""
        places = len(one.units[0].parents)
        may = len(one.units) > 1 and one.units[0].asked.pack == 1 and _own_places(one.units) <= GROUPS_AT_MOST
        for place in range(places):
            one.follows.append(self._of_order([unit.parents[place] for unit in one.units]) if may else None)
        return one

    def _of_order(self, column: list[Unit]) -> Group | None:
        """Return the group of these units in this very order; None when they are, or must be, in another."""
        known = self.group_of.get(column[0].number)
        if known is not None:
            return known if known.units == column else None
        if column[0].asked.pack > 1 or len({self._kinds[unit.number] for unit in column}) > 1:
            return None
        if len({unit.number for unit in column}) < len(column) or any(unit.number in self.group_of for unit in column):
            return None
        made = Group(units=column)
        self.group_of.update((unit.number, made) for unit in column)
        self._place_of.update((unit.number, place) for place, unit in enumerate(column))
        self.made[made.level].append(made)
        return made
