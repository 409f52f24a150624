"""What phases hand on, and how several parents meet: on the labels that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jobs.spec import Scalar
from orchestrator.expansion.labels import agree

#: Labels, open tune labels, place on the open tune axes, parents by role.
Joined = tuple[dict[str, Scalar], tuple[str, ...], tuple[tuple[str, int], ...], tuple[tuple[str, "Handed"], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One trained run, or one run of a pick's choice, that a later phase may start from."""

    labels: Mapping[str, Scalar]
    job: str
    take: str
    run: str | None = None
    resolved: bool = True
    #: Labels of tune axes that no pick has decided yet, and the place of the run on each axis.
    open: tuple[str, ...] = ()
    grid: tuple[tuple[str, int], ...] = ()


def joined(roles: Mapping[str, str], handed: Mapping[str, Sequence[Handed]]) -> Iterator[Joined]:
    """Yield every combination of parents, one a role, that agree on the labels they share; a single empty one without roles."""
    rows: list[Joined] = [({}, (), (), ())]
    for role in sorted(roles):
        offered = handed[roles[role]]
        rows = list(_extended(rows, role, offered))
    yield from rows


def _extended(rows: Sequence[Joined], role: str, offered: Sequence[Handed]) -> Iterator[Joined]:
    """Join one more role, looking partners up by the labels that all rows and all offers have."""
    always = _common([labels for labels, *_ in rows]) & _common([one.labels for one in offered])
    key = sorted(always)
    index: dict[tuple[Scalar, ...], list[Handed]] = {}
    for one in offered:
        index.setdefault(tuple(one.labels[name] for name in key), []).append(one)
    for labels, open_labels, grid, parents in rows:
        for one in index.get(tuple(labels[name] for name in key), ()):
            if agree(labels, one.labels):
                yield (
                    {**labels, **one.labels},
                    tuple(dict.fromkeys((*open_labels, *one.open))),
                    tuple(dict.fromkeys((*grid, *one.grid))),
                    (*parents, (role, one)),
                )


def _common(sets: Sequence[Mapping[str, Scalar]]) -> set[str]:
    if not sets:
        return set()
    names = set(sets[0])
    for labels in sets[1:]:
        names &= labels.keys()
    return names
