"""Random numbers by counter: a pure function of (seed, replicate, position), so that no result depends on tiles, workers or order."""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def words(seed: int, replicates: np.ndarray, length: int) -> np.ndarray:
    """Return `length` random 64-bit words for each replicate index, uint64 (replicates, length): one splitmix64 stream a replicate.

    Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators"; the start of a stream is itself a mixed word.
    """
    key = _mix(np.array([seed % 2**64], np.uint64) + _GOLDEN)
    starts = _mix(key + (replicates.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    steps = np.arange(1, length + 1, dtype=np.uint64) * _GOLDEN
    return _mix(starts[:, None] + steps[None, :])


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
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
    """Return how often each unit is drawn when `units` are drawn with replacement, uint8 or uint16 (replicates, units)."""
    rows = len(replicates)
    drawn = below(units, seed, replicates, units)
    drawn += np.arange(rows, dtype=np.int64)[:, None] * units
    counts = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
    # The mean is 1, so 255 is never reached in practice; a case that did must not wrap around.
    return counts.astype(np.uint8 if counts.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16)


def permutations(units: int, seed: int, replicates: np.ndarray) -> np.ndarray:
    """Return one random order of `units` for each replicate index, int64 (replicates, units)."""
    return np.argsort(words(seed, replicates, units), axis=1, kind="stable")
