"""The patient bootstrap: one matrix of counts for every run and label, and areas under the ROC curve for all replicates at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.streams import below, multiplicities

#: Replicates a tile: the rows that a label gathers from it, one byte a case and replicate, should stay in the cache (measured).
TILE = 64
_DRAWS_STREAM = 0x64726177


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often each unit is drawn in each replicate; the same for every run and label, so that differences are paired."""

    #: One (units, up to TILE) array a tile, contiguous over replicates.
    tiles: tuple[np.ndarray, ...]
    units: int
    replicates: int
    seed: int

    def matrix(self) -> np.ndarray:
        """Return all counts, (units, replicates)."""
        return np.concatenate(self.tiles, axis=1)


def resample(units: int, replicates: int, seed: int = 0, tile: int = TILE) -> Counts:
    """Draw `units` units with replacement in each replicate. Replicate b depends on (seed, b) alone, whatever the tile."""
    tiles = [
        np.ascontiguousarray(multiplicities(units, seed, np.arange(start, min(start + tile, replicates))).T)
        for start in range(0, replicates, tile)
    ]
    return Counts(tiles=tuple(tiles), units=units, replicates=replicates, seed=seed)


def auroc_replicates(truth: np.ndarray, score: np.ndarray, unit: np.ndarray, counts: Counts) -> np.ndarray:
    """Return the weighted area under the ROC curve in every replicate, float64 (replicates,); NaN where a class was not drawn.

    `truth` (cases,) is 0/1, `unit` (cases,) the row of `counts` that a case belongs to. Cases are sorted once. With the rarer class in
    distinct scores s_1 < s_2 < ..., twice the numerator is `sum_k w(s_k) (c(below s_k) + c(up to s_k))`, where w and c are counts of the
    rarer and the other class: integers, so the result is exact up to one rounding.
    """
    flipped = (truth == 1).sum() > (truth == 0).sum()
    rare, other = (0, 1) if flipped else (1, 0)
    anchors, ladder = _Ladder.of(score[truth == rare], unit[truth == rare]), np.argsort(score[truth == other])
    rungs, rung_unit = score[truth == other][ladder], unit[truth == other][ladder]
    if not len(anchors.scores) or not len(rungs):
        return np.full(counts.replicates, np.nan)
    bounds = np.stack([np.searchsorted(rungs, anchors.scores, side=side) for side in ("left", "right")], axis=1).ravel()
    parts = [_tile(tile, anchors, rung_unit, bounds) for tile in counts.tiles]
    twice, total = (np.concatenate(column) for column in zip(*parts, strict=True))
    with np.errstate(invalid="ignore"):
        area = twice / (2.0 * total)
    return 1.0 - area if flipped else area


@dataclass(frozen=True, slots=True)
class _Ladder:
    """The cases of the rarer class in ascending order of score, and where each distinct score starts."""

    scores: np.ndarray
    starts: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, unit: np.ndarray) -> _Ladder:
        order = np.argsort(score, kind="stable")
        distinct, starts = np.unique(score[order], return_index=True)
        return cls(distinct, starts, unit[order])


def _tile(tile: np.ndarray, anchors: _Ladder, rung_unit: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return twice the numerator and the product of the class totals for one tile, each (tile,) and exact in float64."""
    weight = tile[anchors.unit]
    if len(anchors.starts) < len(weight):
        weight = np.add.reduceat(weight, anchors.starts, axis=0, dtype=np.int32)
    steps = _segment_sums(tile[rung_unit], bounds)
    reached = np.cumsum(steps, axis=0, dtype=np.int32)
    # Two rows an anchor, the counts below it and up to it, and one row of all.
    both = reached[0:-1:2] + reached[1:-1:2]
    twice = np.einsum("kb,kb->b", weight, both, dtype=np.float64, casting="unsafe", optimize=False)
    totals = weight.sum(axis=0, dtype=np.float64) * reached[-1]
    return twice, totals


def _segment_sums(rows: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Sum `rows` (cases, tile) between consecutive bounds, from 0 to the end; an empty segment is 0. Shape (len(bounds) + 1, tile)."""
    edges = np.concatenate([[0], bounds, [len(rows)]])
    filled = np.flatnonzero(np.diff(edges) > 0)
    sums = np.zeros((len(edges) - 1, rows.shape[1]), np.int32)
    sums[filled] = np.add.reduceat(rows, edges[:-1][filled], axis=0, dtype=np.int32)
    return sums


def mean_over_draws(replicates: np.ndarray, counts: Counts, *, redraw: bool) -> np.ndarray:
    """Average areas over draws in every replicate: `replicates` is (draws, replicates), the result (replicates,).

    With `redraw` draws are resampled too, independently of the patients (the pigeonhole bootstrap, Owen 2007), and their spread is widened
    by sqrt(D / (D - 1)), without which few draws give too narrow an interval. Which draws are taken depends on the replicate and their
    number alone, so that two arms with matched draws take the same ones.
    """
    draws, total = replicates.shape
    mean = replicates.mean(axis=0)
    if not redraw or draws < 2:
        return mean
    taken = below(draws, counts.seed ^ _DRAWS_STREAM, np.arange(total), draws)
    resampled = np.take_along_axis(replicates, taken.T, axis=0).mean(axis=0)
    return mean + np.sqrt(draws / (draws - 1)) * (resampled - mean)
