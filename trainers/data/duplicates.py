"""Images of two sets that are the same: near fingerprints first, then thumbnails of those."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trainers.data.fingerprints import LEAST_CORRELATION, MOST_DIFFERENT_BITS, correlation

#: After so many pairs the search ends: something is wrong with the data set as a whole, and not with an image.
MOST_PAIRS = 10_000
#: How many pairs are compared at once: as much as stays near the processor.
_ROWS, _COLUMNS = 32, 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images that are the same: their numbers in both sets, how many of 256 bits differ, and how thumbnails correlate."""

    first: int
    second: int
    bits: int
    correlation: float


def near(first: np.ndarray, second: np.ndarray, most: int = MOST_DIFFERENT_BITS) -> Iterator[tuple[int, int, int]]:
    """Yield (number in first, number in second, different bits) of all pairs with at most `most` different bits, in order.

    Fingerprints are uint64 (n, 4). Every pair is compared: half of its bits, and the rest where
    those are near. Threads share the rows.
    """
    columns = np.ascontiguousarray(second.T)
    with ThreadPoolExecutor(threads()) as pool:
        starts = range(0, len(first), _ROWS)
        for start, found in zip(starts, pool.map(lambda at: _near(first[at : at + _ROWS], columns, most), starts), strict=True):
            for row, column, bits in found:
                yield start + row, column, bits


def threads() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _near(rows: np.ndarray, columns: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for begin in range(0, columns.shape[1], _COLUMNS):
        part = columns[:, begin : begin + _COLUMNS]
        half = np.bitwise_count(rows[:, None, 0] ^ part[0]) + np.bitwise_count(rows[:, None, 1] ^ part[1])
        row, column = np.divmod(np.flatnonzero(half <= most), part.shape[1])
        rest = np.bitwise_count(rows[row, 2] ^ part[2, column]) + np.bitwise_count(rows[row, 3] ^ part[3, column])
        bits = half[row, column].astype(np.int64) + rest
        kept = np.flatnonzero(bits <= most)
        found += zip(row[kept].tolist(), (begin + column[kept]).tolist(), bits[kept].tolist(), strict=True)
    return sorted(found)


def pairs(
    first: np.ndarray, second: np.ndarray, pixels: Callable[[int, int], tuple[np.ndarray, np.ndarray]], *, within: bool = False
) -> list[Pair]:
    """Return the pairs of images that are the same, at most `MOST_PAIRS`.

    `pixels` reads both images of a candidate. `within` says that both sets are one, so that each pair counts once and none with itself.
    """
    found: list[Pair] = []
    for one, other, bits in near(first, second):
        if within and one >= other:
            continue
        alike = correlation(*pixels(one, other))
        if alike >= LEAST_CORRELATION:
            found.append(Pair(first=one, second=other, bits=bits, correlation=alike))
            if len(found) == MOST_PAIRS:
                break
    return found
