"""How well scores rank: the exact area under the ROC curve, and the placement values that its variance is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Placements:
    """Where each case stands among the cases of the other class (DeLong, DeLong & Clarke-Pearson 1988)."""

    auroc: float
    #: Per positive: the share of negatives that it outranks, ties counting half. Shape (m,), in the order of the positives.
    positive: np.ndarray
    #: Per negative: the share of positives that outrank it, ties counting half. Shape (n,), in the order of the negatives.
    negative: np.ndarray


def placements(truth: np.ndarray, score: np.ndarray) -> Placements | None:
    """Compute placement values in O(n log n) (Sun & Xu 2014); None when a class is absent.

    `truth` is 0/1 and `score` has the same shape (cases,). The area is exact: a ratio of integers, rounded once.
    """
    positive, negative = score[truth == 1], score[truth == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return None
    above = _twice_below(positive, np.sort(negative))
    below = 2 * m - _twice_below(negative, np.sort(positive))
    return Placements(auroc=int(above.sum()) / (2 * m * n), positive=above / (2 * n), negative=below / (2 * m))


def _twice_below(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return, for each value, twice the number of `ordered` below it plus the number equal to it (int64)."""
    return np.searchsorted(ordered, values, side="left").astype(np.int64) + np.searchsorted(ordered, values, side="right")


def auroc(truth: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float | None:
    """Return the area under the ROC curve, ties counting half; None when a class has no weight.

    `weight` (cases,) counts each case that many times. Integer weights give a ratio of integers that is rounded once.
    """
    counts = np.ones(len(truth), np.int64) if weight is None else weight
    kind = np.int64 if np.issubdtype(counts.dtype, np.integer) else np.float64
    _, group = np.unique(score, return_inverse=True)
    size = int(group.max(initial=-1)) + 1
    positive, negative = (_sums(group[truth == value], counts[truth == value].astype(kind), size) for value in (1, 0))
    total = positive.sum() * negative.sum()
    if not total > 0:
        return None
    twice_below = 2 * np.cumsum(negative) - negative
    twice = (positive * twice_below).sum()
    return int(twice) / (2 * int(total)) if kind is np.int64 else float(twice / (2 * total))


def _sums(group: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    total = np.zeros(size, values.dtype)
    np.add.at(total, group, values)
    return total
