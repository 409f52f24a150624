"""Parting a test set by a declared column: as it is, or in bands where it holds many numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.report.board import Board

#: More values than these are no subgroups; numbers are then cut into bands.
MOST = 12
#: Numbers with more values than these are cut into bands.
PLAIN = 6
#: Ages are cut here, whatever else the data holds, so that two reports have the same bands.
AGES = (18, 40, 60, 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parted:
    """A column as subgroups: a value a unit, empty where it is not known, and the values in order."""

    of_unit: np.ndarray
    values: tuple[str, ...]


def traits_of(board: Board, column: str) -> np.ndarray | None:
    """Return a column of the test set by unit, empty where no run says; None when no run has it, or runs disagree."""
    found: np.ndarray | None = None
    for one in board.scored.values():
        texts = one.frame.traits.get(column)
        if texts is None:
            continue
        if found is None:
            found = texts
            continue
        if ((found != "") & (texts != "") & (found != texts)).any():
            return None
        found = np.where(found == "", texts, found)
    return found


def part(column: str, texts: np.ndarray) -> Parted | None:
    """Part units by a column; None when it has too many values that are no numbers."""
    known = sorted({text for text in texts.tolist() if text})
    numbers = [_number(text) for text in known]
    if all(number is not None for number in numbers) and len(known) > PLAIN:
        return _banded(column, texts, [number for number in numbers if number is not None])
    if len(known) > MOST:
        return None
    ordered = sorted(known, key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
    return Parted(of_unit=texts, values=tuple(ordered))


def _banded(column: str, texts: np.ndarray, numbers: Sequence[float]) -> Parted:
    values = np.array([_number(text) if text else np.nan for text in texts.tolist()], dtype=np.float64)
    if column.lower() == "age":
        cuts = np.array([cut for cut in AGES if min(numbers) < cut <= max(numbers)], dtype=np.float64)
    else:
        cuts = np.unique(np.quantile(values[np.isfinite(values)], [0.25, 0.5, 0.75]))
    place = np.searchsorted(cuts, values, side="right")
    names = [_band(cuts, index) for index in range(len(cuts) + 1)]
    of_unit = np.array([names[at] if np.isfinite(value) else "" for at, value in zip(place, values, strict=True)], dtype=object)
    return Parted(of_unit=of_unit, values=tuple(name for name in names if (of_unit == name).any()))


def _band(cuts: np.ndarray, index: int) -> str:
    if index == 0:
        return f"below {cuts[0]:g}" if len(cuts) else "all"
    if index == len(cuts):
        return f"{cuts[-1]:g} and above"
    return f"{cuts[index - 1]:g} to below {cuts[index]:g}"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
