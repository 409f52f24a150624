"""Ratios of sums over clusters: accuracy, Brier score, Dice, sensitivity. What each cluster adds, and the ratio in every resample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.bootstrap import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio of two sums over clusters."""

    value: float
    #: Shape (clusters,), scaled so that the sum of squares is the variance of `value`; None with fewer than two clusters.
    influence: np.ndarray | None
    #: In every bootstrap resample, (replicates,); NaN where no cluster that counts was drawn.
    replicates: np.ndarray
    #: Clusters that count.
    clusters: int


def ratio(numerator: np.ndarray, denominator: np.ndarray, counts: Counts) -> Ratio | None:
    """Return `sum(numerator) / sum(denominator)`, each (clusters,); None when the denominator is zero.

    The value of cluster g is `sqrt(G/(G-1)) (numerator_g - ratio denominator_g) / sum(denominator)` over the G clusters with a denominator,
    the linearised variance of a ratio (Cochran 1977, 6.3). With denominators of one it is the standard error of a mean.
    """
    total = math.fsum(denominator)
    if not total > 0:
        return None
    value = math.fsum(numerator) / total
    clusters = int(np.count_nonzero(denominator))
    influence = None
    if clusters >= 2:
        influence = math.sqrt(clusters / (clusters - 1)) / total * (numerator - value * denominator)
    above, below = resampled_sums(np.stack([numerator, denominator]), counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = np.where(below > 0, above / below, np.nan)
    return Ratio(value=value, influence=influence, replicates=replicates, clusters=clusters)


def resampled_sums(columns: np.ndarray, counts: Counts) -> np.ndarray:
    """Return the sums of `columns` (k, clusters) in every resample: (k, replicates), in a fixed order whatever the number of threads."""
    parts = [np.einsum("kg,gb->kb", columns.astype(np.float64), tile.astype(np.float64), optimize=False) for tile in counts.tiles]
    return np.concatenate(parts, axis=1)[:, : counts.replicates]


def cluster_sums(values: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    """Return the sum of `values` (cases,) in each cluster, (clusters,)."""
    return np.bincount(cluster, values, minlength=clusters)
