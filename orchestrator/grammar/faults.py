"""What is wrong with a document: faults are collected, and the first one in the file is raised."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from orchestrator.documents import Node
from orchestrator.errors import Place, SweepError

#: With more names than this, an error does not list them all.
_LISTED = 24


class Faults:
    """Collects faults while a document is checked, so that the one shown is the first in the file and not the first looked for."""

    def __init__(self, error: type[SweepError] = SweepError) -> None:
        self._error = error
        self._found: list[SweepError] = []
        self._files: dict[str, int] = {}

    def add(self, node: Node, message: str, *, at: Place | None = None) -> None:
        """Record what is wrong with a value; `at` points elsewhere than at the value (at its key)."""
        self.add_at(at or node.spot, node.path, message)

    def add_at(self, place: Place | None, path: str, message: str) -> None:
        """Record what is wrong at a place."""
        if place is not None:
            self._files.setdefault(place.file, len(self._files))
        self._found.append(self._error(message, path=path, place=place))

    def order(self, file: str) -> None:
        """Say that a file comes after those named before."""
        self._files.setdefault(file, len(self._files))

    @property
    def paths(self) -> frozenset[str]:
        """Return the dotted paths that have a fault."""
        return frozenset(fault.path for fault in self._found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_first(self) -> None:
        """Raise the first fault by file and line; return when there is none."""
        if self._found:
            raise min(self._found, key=self._rank)

    def _rank(self, fault: SweepError) -> tuple[int, int, int]:
        if fault.place is None:
            return (len(self._files), 0, 0)
        return (self._files[fault.place.file], fault.place.line, fault.place.column)


def suggest(name: str, known: Iterable[str], *, what: str = "the names here are") -> str:
    """Return `; did you mean 'x'?`, or the names there are when none is near."""
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    if not names:
        return ""
    if len(names) > _LISTED:
        nearest = difflib.get_close_matches(name, names, n=5, cutoff=0.0)
        return f"; the nearest are {', '.join(nearest)}"
    return f"; {what} {', '.join(names)}"
