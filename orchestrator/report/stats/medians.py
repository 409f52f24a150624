"""Medians over clusters, and the median in every resample: for distances, whose few large values a mean would follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.bootstrap import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Median:
    """A median over clusters."""

    value: float
    #: In every bootstrap resample, (replicates,); NaN where no cluster with a value was drawn.
    replicates: np.ndarray
    #: Shape (replicates,): centred resamples, scaled so that dot products are bootstrap covariances. They stand in for influence values,
    #: of which a median has none without a density.
    spread: np.ndarray
    clusters: int


def median(values: np.ndarray, counts: Counts) -> Median | None:
    """Return the median of `values` (clusters,), NaN left out; None when there is none. With an even number it is the mean of two."""
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return None
    order = known[np.argsort(values[known], kind="stable")]
    replicates = np.concatenate([_medians(values[order], tile[order]) for tile in counts.tiles])[: counts.replicates]
    valid = np.isfinite(replicates)
    centred = np.where(valid, replicates - replicates[valid].mean(), 0.0) if valid.any() else np.zeros(len(replicates))
    spread = centred / math.sqrt(max(int(valid.sum()) - 1, 1))
    return Median(value=float(np.median(values[known])), replicates=replicates, spread=spread, clusters=len(known))


def _medians(ordered: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the median of ascending values (n,) by whole weights (n, lanes), NaN where they are all zero."""
    reached = np.cumsum(weights, axis=0, dtype=np.int64)
    total = reached[-1]
    lower, upper = (ordered[np.argmax(passed, axis=0)] for passed in (2 * reached >= total, 2 * reached > total))
    return np.where(total > 0, (lower + upper) / 2, np.nan)
