"""All pairs at once: p values adjusted by how large the largest of them would be by chance, and intervals that hold together.

Westfall & Young (1993). How contrasts depend on each other comes from the data: the same patients and draws stand behind all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from orchestrator.report.stats.influence import products
from orchestrator.report.stats.streams import words

SAMPLED = 20_000
_TILE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Simultaneous:
    """What becomes of p values when the best of many is looked at."""

    #: One for each contrast, in the order given.
    p_adjusted: tuple[float, ...]
    #: No adjusted p is below this.
    smallest_p: float
    replicates: int


def max_t(observed: np.ndarray, null: np.ndarray) -> Simultaneous:
    """Adjust by step-down max-t: `observed` (contrasts,) and `null` (replicates, contrasts) are statistics, large when far from zero.

    The largest is set against the maxima over all contrasts, the next against those over the rest, and so on; adjusted p values never fall
    in that order (Westfall & Young 1993, algorithm 2.8). `null` holds the statistics under no difference, dependent as they are: centred
    bootstrap replicates over their standard errors, or `normal_scores`. Raises ValueError on values that are not finite, and on two shapes.
    """
    far, chance = np.abs(np.asarray(observed, np.float64)), np.abs(np.asarray(null, np.float64))
    if chance.ndim != 2 or chance.shape[1:] != far.shape or not len(chance):
        raise ValueError(f"statistics of shape {far.shape} need null replicates of shape (replicates, {far.size}), got {chance.shape}")
    if not (np.isfinite(far).all() and np.isfinite(chance).all()):
        raise ValueError("a statistic is not finite; leave the contrast out, and say so")
    total, order = len(chance) + 1, np.argsort(-far, kind="stable")
    # From the smallest up, the maximum over this contrast and all smaller ones.
    maxima = np.maximum.accumulate(chance[:, order[::-1]], axis=1)[:, ::-1]
    raw = (1 + (maxima >= far[order][None]).sum(axis=0)) / total
    adjusted = np.empty(len(far))
    adjusted[order] = np.maximum.accumulate(raw)
    return Simultaneous(p_adjusted=tuple(float(p) for p in adjusted), smallest_p=1 / total, replicates=len(chance))


def critical_value(null: np.ndarray, confidence: float) -> float:
    """Return the multiple of a standard error that makes all intervals hold together: a quantile of the maxima over contrasts."""
    return float(np.quantile(np.abs(null).max(axis=1), confidence))


def min_p(values: np.ndarray, covariance: np.ndarray, *, seed: int = 0, replicates: int = SAMPLED) -> Simultaneous:
    """Adjust p values (contrasts,) whose statistics differ in degrees of freedom: each is a normal score, dependent as `covariance` says.

    `covariance` (contrasts, contrasts) is that of the estimates, see `covariance_of_arms`. Raises ValueError on a p value outside [0, 1].
    """
    p = np.asarray(values, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("a p value is not between 0 and 1")
    # A floor keeps the score of a p that underflowed finite.
    scores = -special.ndtri(np.maximum(p, 1e-300) / 2)
    return max_t(scores, normal_scores(covariance, seed=seed, replicates=replicates))


def normal_scores(covariance: np.ndarray, *, seed: int = 0, replicates: int = SAMPLED) -> np.ndarray:
    """Draw standard normal scores (replicates, contrasts) with the correlations of `covariance`; replicate b depends on (seed, b) alone.

    Raises ValueError when a variance is not positive: a contrast without one has no statistic.
    """
    spread = np.sqrt(np.diag(covariance))
    if not (spread > 0).all():
        raise ValueError("a contrast has no variance; leave it out, and say so")
    value, vector = np.linalg.eigh(covariance / np.outer(spread, spread))
    root = vector * np.sqrt(np.maximum(value, 0.0))
    parts = [_normal(len(spread), seed, np.arange(start, min(start + _TILE, replicates))) for start in range(0, replicates, _TILE)]
    return np.concatenate([np.einsum("bk,ck->bc", part, root, optimize=False) for part in parts])


def _normal(length: int, seed: int, replicates: np.ndarray) -> np.ndarray:
    uniform = ((words(seed, replicates, length) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return special.ndtri(uniform)


def pairs(arms: int) -> list[tuple[int, int]]:
    """Return all pairs of arms, the first before the second."""
    return [(i, j) for i in range(arms) for j in range(i + 1, arms)]


def covariance_of_arms(values: list[np.ndarray], influence: list[np.ndarray], *, matched: bool) -> np.ndarray:
    """Return the covariance (arms, arms) of the means of arms over new draws and new patients.

    `values[k]` is (draws of k,) and `influence[k]` (draws of k, clusters), on the same clusters. Matched arms share their draws, so what a
    draw does to one it may do to another; arms that are not matched share the patients alone.
    """
    moved = np.stack([one.mean(axis=0) for one in influence])
    found = products(moved, moved)
    if matched:
        table = np.stack(values)
        centred = table - table.mean(axis=1, keepdims=True)
        draws = table.shape[1]
        return found + (products(centred, centred) / (draws - 1) / draws if draws > 1 else 0.0)
    return found + np.diag([float(one.var(ddof=1)) / len(one) if len(one) > 1 else 0.0 for one in values])


def covariance_of_pairs(of_arms: np.ndarray, contrasts: list[tuple[int, int]]) -> np.ndarray:
    """Return the covariance (contrasts, contrasts) of differences, each of one arm less another."""
    sign = np.zeros((len(contrasts), len(of_arms)))
    for row, (arm, other) in enumerate(contrasts):
        sign[row, arm], sign[row, other] = 1.0, -1.0
    return np.einsum("ca,ab,db->cd", sign, of_arms, sign, optimize=False)
