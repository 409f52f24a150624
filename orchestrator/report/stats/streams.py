"""Random numbers by counter: a pure function of (seed, replicate, position), so that no result depends on tiles, workers or order."""

from __future__ import annotations

import numpy as np

#: The increment and the two multipliers of splitmix64.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
#: Draws that are made before they are counted: they should stay in the cache (measured).
DRAWN_AT_ONCE = 100_000


def words(seed: int, replicates: np.ndarray, length: int) -> np.ndarray:
    """Return `length` random 64-bit words for each replicate index, uint64 (replicates, length): one splitmix64 stream a replicate.

    Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators"; the start of a stream is itself a mixed word.
    """
    starts = stream_starts(seed, replicates)
    steps = np.arange(1, length + 1, dtype=np.uint64) * GOLDEN
    return _mix(starts[:, None] + steps[None, :])


def stream_starts(seed: int, replicates: np.ndarray) -> np.ndarray:
    """Return where the stream of each replicate index starts, uint64 (replicates,)."""
    key = _mix(np.array([seed % 2**64], np.uint64) + GOLDEN)
    return _mix(key + (replicates.astype(np.uint64) + np.uint64(1)) * GOLDEN)


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * MIX_1
    state = (state ^ (state >> np.uint64(27))) * MIX_2
    return state ^ (state >> np.uint64(31))


def below(limit: int, seed: int, replicates: np.ndarray, length: int) -> np.ndarray:
    """Return `length` integers in [0, limit) for each replicate index, int64 (replicates, length).

    The upper 32 bits are scaled, so a value's probability is off by at most limit / 2**32 of itself. Raises ValueError beyond 2**31.
    """
    if not 0 < limit < 2**31:
        raise ValueError(f"limit {limit} is not between 1 and 2**31 - 1")
    upper = words(seed, replicates, length) >> np.uint64(32)
    return ((upper * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)


def multiplicities(units: int, seed: int, replicates: np.ndarray) -> np.ndarray:
    """Return how often each unit is drawn when `units` are drawn with replacement, uint8 (replicates, units).

    The mean is 1: that a unit is drawn 256 times, which a byte does not hold, has a probability below 1e-500.
    """
    counts = np.empty((len(replicates), units), np.uint8)
    at_once = max(1, DRAWN_AT_ONCE // units)
    for start in range(0, len(replicates), at_once):
        drawn = below(units, seed, replicates[start : start + at_once], units)
        rows = len(drawn)
        drawn += np.arange(rows, dtype=np.int64)[:, None] * units
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
    return counts


def permutations(units: int, seed: int, replicates: np.ndarray) -> np.ndarray:
    """Return one random order of `units` for each replicate index, int64 (replicates, units)."""
    return np.argsort(words(seed, replicates, units), axis=1, kind="stable")
