"""How well scores rank: one sort a model and label, and from it the exact area under the ROC curve and its placement values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """Cases in ascending order of score. One sort serves a point value, its variance and all of its resamples."""

    #: The place of each case, (cases,); the order among equal scores means nothing.
    order: np.ndarray
    #: Whether each case is positive, (cases,) in that order.
    positive: np.ndarray
    #: Where each distinct score begins, and the number of cases: (distinct scores + 1,).
    starts: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, score: np.ndarray) -> Ranked:
        """Sort cases: `truth` is 0/1 and `score` has the same shape (cases,), without NaN. -0.0 and 0.0 are one score."""
        order = np.argsort(score)
        ascending = score[order]
        begins = np.flatnonzero(ascending[1:] != ascending[:-1]) + 1
        starts = np.concatenate([[0], begins, [len(order)]]) if len(order) else np.zeros(1, np.int64)
        return cls(order=order, positive=truth[order] == 1, starts=starts)

    @property
    def positives(self) -> int:
        """Return how many cases are positive."""
        return int(np.count_nonzero(self.positive))

    @property
    def negatives(self) -> int:
        """Return how many cases are negative."""
        return len(self.positive) - self.positives

    def up_to(self, values: np.ndarray) -> np.ndarray:
        """Sum `values` (cases,) in ascending order over the cases below each start: (distinct scores + 1,), from 0 to the total."""
        total = np.zeros(len(values) + 1, values.dtype)
        np.cumsum(values, out=total[1:])
        return total[self.starts]

    def of_cases(self, by_score: np.ndarray) -> np.ndarray:
        """Give each case what belongs to its score: (distinct scores,) to (cases,), in the order in which cases came."""
        found = np.empty(len(self.order), by_score.dtype)
        found[self.order] = by_score if len(by_score) == len(self.order) else np.repeat(by_score, np.diff(self.starts))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Placements:
    """Where each case stands among the cases of the other class (DeLong, DeLong & Clarke-Pearson 1988)."""

    auroc: float
    #: Per positive: the share of negatives that it outranks, ties counting half. Shape (m,), in the order of the positives.
    positive: np.ndarray
    #: Per negative: the share of positives that outrank it, ties counting half. Shape (n,), in the order of the negatives.
    negative: np.ndarray


def placements(truth: np.ndarray, score: np.ndarray, ranked: Ranked | None = None) -> Placements | None:
    """Compute placement values in O(n log n) (Sun & Xu 2014); None when a class is absent.

    `truth` is 0/1 and `score` has the same shape (cases,); `ranked` is their order where it is known. The area is exact: a ratio of
    integers, rounded once.
    """
    ranked = ranked or Ranked.of(truth, score)
    m, n = ranked.positives, ranked.negatives
    if m == 0 or n == 0:
        return None
    negatives = ranked.up_to((~ranked.positive).astype(np.int64))
    positives = ranked.starts - negatives
    is_positive = truth == 1
    # Twice the negatives below a score plus those at it, and twice the positives above it plus those at it.
    above = ranked.of_cases(negatives[:-1] + negatives[1:])[is_positive]
    below = 2 * m - ranked.of_cases(positives[:-1] + positives[1:])[~is_positive]
    return Placements(auroc=int(above.sum()) / (2 * m * n), positive=above / (2 * n), negative=below / (2 * m))


def auroc(truth: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float | None:
    """Return the area under the ROC curve, ties counting half; None when a class has no weight.

    `weight` (cases,) counts each case that many times. Integer weights give a ratio of integers that is rounded once. Raises ValueError for
    a weight that is negative or not finite.
    """
    ranked = Ranked.of(truth, score)
    positive, negative = class_weights(ranked, weight)
    total = positive[-1] * negative[-1]
    if not total > 0:
        return None
    twice = (np.diff(positive) * (negative[:-1] + negative[1:])).sum()
    return int(twice) / (2 * int(total)) if twice.dtype == np.int64 else float(twice / (2 * total))


def class_weights(ranked: Ranked, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight of positives and of negatives below each distinct score, and in all: each (distinct scores + 1,)."""
    weights = sorted_weights(ranked, weight)
    nothing = np.zeros(1, weights.dtype)
    return ranked.up_to(np.where(ranked.positive, weights, nothing)), ranked.up_to(np.where(ranked.positive, nothing, weights))


def sorted_weights(ranked: Ranked, weight: np.ndarray | None) -> np.ndarray:
    """Return the weight of each case (cases,) in ascending order of score: whole numbers as int64, others as float64.

    Raises ValueError for a weight that is negative or not finite.
    """
    if weight is None:
        return np.ones(len(ranked.order), np.int64)
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("a weight is negative or not finite")
    return weight[ranked.order].astype(np.int64 if weight.dtype.kind in "biu" else np.float64)
