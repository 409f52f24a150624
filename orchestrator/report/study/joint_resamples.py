"""Resamples of several test sets together: each draws its own patients, and those that share patients draw them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from orchestrator.report.board import Board, redrawn
from orchestrator.report.stats.bootstrap import Counts, resample
from orchestrator.report.stats.streams import permutations

#: Keeps the orders below apart from other streams of the same seed.
_ORDERS = 0x6F726465


def joint_replicates(boards: Sequence[Board], places: Sequence[np.ndarray], clusters: int) -> list[Mapping[str, np.ndarray]]:
    """Return the headline measure of every run in every joint resample, by job, for each test set.

    `places` say which of all `clusters` the clusters of each test set are. Test sets that share clusters, directly or through another
    one, are resampled as one population. Others keep the resamples they have, in an order of their own: resamples that were drawn with
    one seed are not independent of each other, and a random order makes them so.
    """
    groups = _together(places, clusters)
    found: list[Mapping[str, np.ndarray]] = [{} for _ in boards]
    for number in range(int(groups.max()) + 1):
        own = np.flatnonzero(groups == number).tolist()
        total = boards[own[0]].counts.replicates
        order = np.arange(total) if number == 0 else permutations(total, _ORDERS, np.array([number]))[0]
        counts = [boards[own[0]].counts] if len(own) == 1 else _shared([boards[index] for index in own], [places[index] for index in own])
        for index, drawn in zip(own, counts, strict=True):
            board = boards[index]
            areas = (
                redrawn(board, drawn) if len(own) > 1 else {job: one.areas[None] for job, one in board.scored.items() if None in one.areas}
            )
            found[index] = {job: one.replicates[order] for job, one in areas.items()}
    return found


def _together(places: Sequence[np.ndarray], clusters: int) -> np.ndarray:
    """Number the groups of test sets that share clusters, (test sets,), in the order of their first test set."""
    held = np.zeros((len(places), clusters), np.int64)
    for row, place in zip(held, places, strict=True):
        row[place] = 1
    _, labels = connected_components(csr_array(held @ held.T), directed=False)
    _, first, numbered = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbered]


def _shared(boards: Sequence[Board], places: Sequence[np.ndarray]) -> list[Counts]:
    """Draw the clusters of some test sets as one population, and return how often each test set's own were drawn."""
    union = np.unique(np.concatenate(places))
    first = boards[0].counts
    drawn = resample(len(union), first.replicates, first.seed, engine=first.engine)
    return [drawn.only(np.searchsorted(union, place)) for place in places]
