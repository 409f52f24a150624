"""Calibration: the Brier score in parts, and how far probabilities are from frequencies in stated bins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: Bins of every error here.
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Cases sorted into bins by probability; empty bins are left out. Arrays are (bins,), but for `place`."""

    #: (cases,): the bin of each.
    place: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    #: Mean probability and share of positives.
    probability: np.ndarray
    frequency: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Brier:
    """The Brier score in parts, which add up: reliability - resolution + uncertainty + within (Murphy 1973, Stephenson et al. 2008)."""

    value: float
    reliability: float
    resolution: float
    uncertainty: float
    #: What is lost because probabilities within a bin differ.
    within: float


def equal_width(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> Bins:
    """Sort cases into bins of equal width over 0 to 1; the upper edge belongs to the bin above, but for 1."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    return _filled(probability, truth, place, np.linspace(0.0, 1.0, bins + 1))


def equal_mass(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> Bins:
    """Sort cases into bins of about equal numbers; cases of one probability stay together, so that order does not matter."""
    edges = np.quantile(probability, np.linspace(0.0, 1.0, bins + 1)[1:-1])
    place = np.searchsorted(np.unique(edges), probability, side="right")
    return _filled(probability, truth, place, np.array([probability.min(), *np.unique(edges), probability.max()]))


def _filled(probability: np.ndarray, truth: np.ndarray, place: np.ndarray, edges: np.ndarray) -> Bins:
    count = np.bincount(place, minlength=len(edges) - 1)
    kept = np.flatnonzero(count)
    sums = [np.bincount(place, values, minlength=len(count))[kept] for values in (probability, truth.astype(np.float64))]
    return Bins(
        place=np.searchsorted(kept, place),
        low=edges[:-1][kept],
        high=edges[1:][kept],
        count=count[kept],
        probability=sums[0] / count[kept],
        frequency=sums[1] / count[kept],
    )


def ece(found: Bins) -> float:
    """Return the expected calibration error: the mean over cases of how far probability and frequency of their bin are (Naeini 2015)."""
    return float((found.count * np.abs(found.probability - found.frequency)).sum() / found.count.sum())


def debiased(found: Bins) -> float | None:
    """Return the root of the squared calibration error less what chance adds to it (Kumar, Liang & Ma 2019); 0 where that is negative.

    None when no bin has two cases, and nothing says what chance adds.
    """
    kept = found.count > 1
    if not kept.any():
        return None
    count, frequency = found.count[kept], found.frequency[kept]
    squared = (found.probability[kept] - frequency) ** 2 - frequency * (1 - frequency) / (count - 1)
    return math.sqrt(max(float((count * squared).sum() / count.sum()), 0.0))


def brier(probability: np.ndarray, truth: np.ndarray, found: Bins) -> Brier:
    """Return the Brier score in parts over some bins, such as those of equal mass; `probability` and `truth` are (cases,)."""
    share, base = found.count / found.count.sum(), float(truth.mean())
    value = float(((probability - truth) ** 2).mean())
    reliability = float((share * (found.probability - found.frequency) ** 2).sum())
    resolution = float((share * (found.frequency - base) ** 2).sum())
    uncertainty = base * (1 - base)
    return Brier(
        value=value,
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        within=value - (reliability - resolution + uncertainty),
    )
