"""How stable an order is: over bootstrap replicates, how often each of several arms takes each place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Fewer replicates in which every arm has a value say nothing.
ENOUGH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpread:
    """Places of one arm, the first being the best. Ties share the places that they span."""

    #: Share of replicates in each place, (arms,), summing to 1.
    shares: tuple[float, ...]
    mean: float
    #: The places that hold the arm at the level asked for: equal tails, whole places.
    low: int
    high: int


def rank_spreads(values: np.ndarray, confidence: float) -> tuple[RankSpread, ...] | None:
    """Rank arms in every replicate, higher is better: `values` is (arms, replicates), NaN where a replicate has none.

    None when fewer than `ENOUGH` replicates have a value of every arm. The arms of one replicate share its patients, and their draws where
    these are matched, so the order depends on how the arms differ and not on how far each moves by itself.
    """
    known = values[:, np.isfinite(values).all(axis=0)]
    if known.shape[1] < ENOUGH:
        return None
    shares = _place_shares(known)
    places = np.arange(1, len(known) + 1)
    tail = (1 - confidence) / 2
    reached = np.cumsum(shares, axis=1)
    found: list[RankSpread] = []
    for row, up_to in zip(shares, reached, strict=True):
        # A sum of shares may miss a tail by its last bit.
        low = int(places[np.argmax(up_to > tail + 1e-12)])
        high = int(places[np.argmax(up_to >= 1 - tail - 1e-12)])
        found.append(RankSpread(shares=tuple(map(float, row)), mean=float(row @ places), low=low, high=high))
    return tuple(found)


def _place_shares(values: np.ndarray) -> np.ndarray:
    """Return the share of replicates of each arm in each place, (arms, places); rows and columns sum to 1."""
    above = (values[None] > values[:, None]).sum(axis=1)
    tied = (values[None] == values[:, None]).sum(axis=1)
    place = np.arange(len(values))[None, :, None]
    inside = (above[:, None] <= place) & (place < (above + tied)[:, None])
    return (inside / tied[:, None]).mean(axis=2)
