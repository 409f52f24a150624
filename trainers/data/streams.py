"""Randomness without state: numbers that are a pure function of (seed, epoch, sample, view, operation).

Each sample has its own SplitMix64 stream (Steele, Lea, Flood, OOPSLA 2014) whose start is a hash of those keys, so that the order of
samples, the size of a batch and a resume in the middle of an epoch change nothing.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def uniform(count: int, *, seed: int, epoch: int, positions: np.ndarray, view: int = 0) -> np.ndarray:
    """Return numbers in [0, 1), float64 (len(positions), count); column k does not depend on `count`."""
    start = 0
    for part in (seed, epoch, view):
        start = _mix_one(start ^ (part & _MASK))
    keys = _mix(np.asarray(positions, dtype=np.int64).astype(np.uint64) ^ np.uint64(start))
    steps = np.array([(index * _GOLDEN) & _MASK for index in range(count)], dtype=np.uint64)
    # The upper 53 bits fill a double's mantissa.
    return (_mix(keys[:, None] + steps[None, :]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def key(*parts: int) -> int:
    """Return 64 bits that are a hash of some integers, for seeding a generator."""
    value = 0
    for part in parts:
        value = _mix_one(value ^ (part & _MASK))
    return value


def _mix_one(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def _mix(values: np.ndarray) -> np.ndarray:
    """Hash uint64 values; arithmetic wraps around by design."""
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
