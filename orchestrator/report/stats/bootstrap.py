"""The patient bootstrap: one set of counts for every run and label, and a ranking measure in all replicates at once.

What a replicate counts are whole numbers and every quotient is taken in one order, so numpy and the compiled kernels give the same bits.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np

from orchestrator.report.stats.ranking import Ranked
from orchestrator.report.stats.streams import below, multiplicities, stream_starts

#: Replicates a tile: what one unit weighs in them is one line of the processor's cache.
LANES = 64
#: Bytes that numpy gathers from tiles at a time: they should stay in the cache (measured).
GATHERED = 1_600_000
#: Cases times replicates from which loading the compiled kernels pays: what takes numpy some seconds (measured).
WORTH_COMPILING = 2_000_000_000
#: The largest count of two that share a byte. That a unit is drawn more often has a chance of about 1 in 10**14.
_HALF_A_BYTE = 15
_COMPILED = "orchestrator.report.stats.compiled"
_DRAWS_STREAM = 0x64726177

Engine = Literal["numpy", "numba"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often each unit is drawn in each replicate; the same for every run and label, so that differences are paired."""

    #: uint8 (tiles, units, LANES), contiguous over replicates; beyond the last replicate all is 0.
    tiles: np.ndarray
    units: int
    replicates: int
    seed: int
    #: The largest count.
    most: int = 1
    engine: Engine = "numpy"
    #: uint8 (tiles / 2, units, LANES): two tiles in one, half a byte a count, for the compiled kernels; None for numpy's.
    packed: np.ndarray | None = None

    def only(self, units: np.ndarray) -> Counts:
        """Return the counts of some units, by their places (n,), in that order."""
        tiles, packed = (None if held is None else np.ascontiguousarray(held[:, units]) for held in (self.tiles, self.packed))
        return replace(self, tiles=tiles, packed=packed, units=len(units))

    def matrix(self) -> np.ndarray:
        """Return all counts, (units, replicates)."""
        return np.concatenate(list(self.tiles), axis=1)[:, : self.replicates]


def engine_for(work: int) -> Engine:
    """Return `numba` where it is installed and `work` cases times replicates are worth loading it, else `numpy`: the same numbers."""
    loaded = _COMPILED in sys.modules
    return "numba" if (loaded or work >= WORTH_COMPILING) and _kernels() is not None else "numpy"


@cache
def _kernels() -> Any:
    """Return the compiled kernels, or None where numba is not installed or does not know this numpy."""
    try:
        return import_module(_COMPILED)
    except ImportError:
        return None


def resample(units: int, replicates: int, seed: int = 0, *, engine: Engine | None = None) -> Counts:
    """Draw `units` units with replacement in each replicate. Replicate b depends on (seed, b) alone, whatever its tile and the engine."""
    engine = engine or engine_for(units * replicates)
    starts = range(0, replicates, LANES)
    tiles = np.zeros((len(starts), units, LANES), np.uint8)
    if engine == "numba":
        _kernels().draw(stream_starts(seed, np.arange(replicates)), units, tiles)
    else:
        for tile, start in zip(tiles, starts, strict=True):
            drawn = multiplicities(units, seed, np.arange(start, min(start + LANES, replicates)))
            tile[:, : len(drawn)] = drawn.T
    most = int(tiles.max(initial=1))
    packed = in_pairs(tiles, most, engine)
    return Counts(tiles=tiles, units=units, replicates=replicates, seed=seed, most=most, engine=engine, packed=packed)


def in_pairs(tiles: np.ndarray, most: int, engine: Engine) -> np.ndarray | None:
    """Return tiles (tiles, units, LANES) two in one, the second in the upper half of each byte; None where numpy does the work.

    An odd last tile stays alone. Nothing is packed where a count does not fit into half a byte: numpy does it then.
    """
    if engine != "numba" or most > _HALF_A_BYTE:
        return None
    packed = tiles[0::2].copy()
    packed[: len(tiles) // 2] |= tiles[1::2] << 4
    return packed


def auroc_replicates(truth: np.ndarray, score: np.ndarray, unit: np.ndarray, counts: Counts, ranked: Ranked | None = None) -> np.ndarray:
    """Return the weighted area under the ROC curve in every replicate, float64 (replicates,); NaN where a class was not drawn.

    `truth` (cases,) is 0/1, `unit` (cases,) the row of `counts` that a case belongs to, `ranked` the order of the cases where it is known.
    With the rarer class in distinct scores s_1 < s_2 < ..., twice the numerator is `sum_k w(s_k) (c(below s_k) + c(up to s_k))`, where w
    and c are counts of the rarer and the other class: whole numbers, so the result is exact up to one rounding.
    """
    ranked = ranked or Ranked.of(truth, score)
    flipped = ranked.positives > ranked.negatives
    ladder = _Ladder.of(ranked, unit, ranked.positive ^ flipped)
    if not len(ladder.anchors) or not len(ladder.rungs):
        return np.full(counts.replicates, np.nan)
    if counts.packed is not None:
        twice, rare, other = (np.empty(counts.packed.shape[0] * 2 * LANES, np.int64) for _ in range(3))
        room, packed = 255 // counts.most, counts.packed
        _kernels().area_sums(packed, ladder.anchors, ladder.starts, ladder.below, ladder.up_to, ladder.rungs, room, twice, rare, other)
    else:
        twice, rare, other = _whole(ladder, counts, _area_sums)
    with np.errstate(invalid="ignore"):
        area = (twice / (2.0 * (rare * other)))[: counts.replicates]
    return 1.0 - area if flipped else area


def precision_replicates(
    truth: np.ndarray, score: np.ndarray, unit: np.ndarray, counts: Counts, ranked: Ranked | None = None
) -> np.ndarray:
    """Return the weighted average precision in every replicate, float64 (replicates,); NaN where no positive was drawn.

    Arguments are those of `auroc_replicates`. With the positives in distinct scores s_1 > s_2 > ..., it is the sum over k of
    `w(s_k) TP_k / (TP_k + FP_k)` by the total of w, where w, TP and FP count positives at, positives from and negatives from s_k up.
    """
    ranked = ranked or Ranked.of(truth, score)
    ladder = _Ladder.of(ranked, unit, ranked.positive).from_above()
    if not len(ladder.anchors):
        return np.full(counts.replicates, np.nan)
    if counts.engine == "numba":
        gained, positive = (np.empty(counts.tiles.shape[0] * LANES, kind) for kind in (np.float64, np.int64))
        room = 255 // counts.most
        _kernels().precision_sums(counts.tiles, ladder.anchors, ladder.starts, ladder.up_to, ladder.rungs, room, gained, positive)
    else:
        gained, positive = _whole(ladder, counts, _precision_sums)
    with np.errstate(invalid="ignore"):
        return (gained / positive)[: counts.replicates]


@dataclass(frozen=True, slots=True)
class _Ladder:
    """The cases of one class (anchors) among those of the other (rungs), both in the order of their scores, as units."""

    anchors: np.ndarray
    #: Where each distinct score of an anchor begins, and the number of anchors.
    starts: np.ndarray
    rungs: np.ndarray
    #: How many rungs stand before each distinct score of an anchor, and how many before the next score.
    below: np.ndarray
    up_to: np.ndarray

    @classmethod
    def of(cls, ranked: Ranked, unit: np.ndarray, is_anchor: np.ndarray) -> _Ladder:
        """Part cases by class; `is_anchor` (cases,) is in the order of `ranked`, ascending."""
        units = unit[ranked.order].astype(np.uint32)
        reached = ranked.up_to(is_anchor.astype(np.int64))
        rungs = ranked.starts - reached
        held = np.flatnonzero(np.diff(reached))
        starts = np.append(reached[held], reached[-1])
        return cls(units[is_anchor], starts, units[~is_anchor], rungs[held], rungs[held + 1])

    def from_above(self) -> _Ladder:
        """Return the same in descending order."""
        anchors, rungs = len(self.anchors), len(self.rungs)
        starts, below, up_to = (
            np.ascontiguousarray(total - values[::-1])
            for total, values in ((anchors, self.starts), (rungs, self.up_to), (rungs, self.below))
        )
        return _Ladder(np.ascontiguousarray(self.anchors[::-1]), starts, np.ascontiguousarray(self.rungs[::-1]), below, up_to)


def _whole(ladder: _Ladder, counts: Counts, sums: Any) -> tuple[np.ndarray, ...]:
    """Apply numpy's kernel to as many tiles at a time as the cache holds; each result is (tiles x LANES,)."""
    at_once = max(1, GATHERED // ((len(ladder.anchors) + len(ladder.rungs)) * LANES))
    room = 255 // counts.most
    parts = [sums(counts.tiles[start : start + at_once], ladder, room) for start in range(0, len(counts.tiles), at_once)]
    return tuple(np.concatenate([one.ravel() for one in column]) for column in zip(*parts, strict=True))


def _area_sums(tiles: np.ndarray, ladder: _Ladder, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return twice the numerator and the class totals for some tiles, each int64 (tiles, LANES)."""
    tied = len(ladder.starts) <= len(ladder.anchors)
    weight = np.diff(_sums_before(tiles, ladder.anchors, ladder.starts, room), axis=1) if tied else tiles.take(ladder.anchors, axis=1)
    below = _sums_before(tiles, ladder.rungs, np.append(ladder.below, len(ladder.rungs)), room)
    other, below = below[:, -1], below[:, :-1]
    same = np.array_equal(ladder.below, ladder.up_to)
    both = 2 * below if same else below + _sums_before(tiles, ladder.rungs, ladder.up_to, room)
    # Whole numbers below 2**53: the products and their sums are exact.
    twice = np.einsum("tkb,tkb->tb", weight, both, dtype=np.float64, casting="unsafe", optimize=False)
    return twice.astype(np.int64), weight.sum(axis=1, dtype=np.int64), other.astype(np.int64)


def _precision_sums(tiles: np.ndarray, ladder: _Ladder, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum over thresholds of positives times precision, float64, and the positives, int64, each (tiles, LANES)."""
    reached = _sums_before(tiles, ladder.anchors, ladder.starts, room).astype(np.int64)
    weight, reached = np.diff(reached, axis=1), reached[:, 1:]
    passed = _sums_before(tiles, ladder.rungs, ladder.up_to, room)
    terms = (weight * reached) / np.maximum(reached + passed, 1)
    # One after another, as the compiled kernel adds them.
    return np.cumsum(terms, axis=1)[:, -1], reached[:, -1]


def _sums_before(tiles: np.ndarray, rows: np.ndarray, bounds: np.ndarray, room: int) -> np.ndarray:
    """Sum `tiles[:, rows]` before each of some ascending bounds: int32 (tiles, bounds, LANES).

    Eight counts are added at once, as one 64-bit number, over at most `room` rows, in which no byte can overflow.
    """
    edges = np.union1d(bounds, np.arange(0, len(rows) + room, room).clip(max=len(rows)))
    sums = np.zeros((len(tiles), len(edges), LANES), np.int32)
    if len(rows):
        words = tiles.view(np.uint64).take(rows, axis=1)
        parts = np.add.reduceat(words, edges[:-1], axis=1).view(np.uint8)
        np.cumsum(parts, axis=1, dtype=np.int32, out=sums[:, 1:])
    return sums if np.array_equal(edges, bounds) else sums.take(np.searchsorted(edges, bounds), axis=1)


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
    resampled = np.take_along_axis(replicates, drawn_again(draws, total, counts), axis=0).mean(axis=0)
    return mean + np.sqrt(draws / (draws - 1)) * (resampled - mean)


def drawn_again(draws: int, total: int, counts: Counts) -> np.ndarray:
    """Return which draws are taken in each replicate, int64 (draws, total): it depends on replicate, seed and number of draws alone."""
    return below(draws, counts.seed ^ _DRAWS_STREAM, np.arange(total), draws).T


def of_side(counts: Counts, side: int) -> Counts:
    """Give each side of an unmatched comparison draws of its own, on the same patients."""
    return counts if side == 0 else replace(counts, seed=counts.seed + 7919 * side)
