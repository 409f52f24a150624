"""Curves on a fixed grid, so that runs can be averaged: ROC by false positive rate, precision by recall."""

from __future__ import annotations

import numpy as np

#: Points of a curve, ends included.
POINTS = 51
GRID = np.linspace(0.0, 1.0, POINTS)


#: True and false positives at each distinct score, from the highest down, starting with none.
Counts = tuple[np.ndarray, np.ndarray]


def counts(truth: np.ndarray, score: np.ndarray) -> Counts:
    """Count cases by score, which both curves are made from: `truth` is 0/1 and `score` has the same shape (cases,)."""
    # The order among equal scores means nothing: they are counted together.
    order = np.argsort(score)[::-1]
    descending = score[order]
    last = np.append(np.flatnonzero(descending[1:] != descending[:-1]), len(order) - 1)
    hits = np.cumsum(truth[order] == 1)[last]
    return np.append(0, hits), np.append(0, last + 1 - hits)


def roc(found: Counts) -> np.ndarray | None:
    """Return the true positive rate at each false positive rate of `GRID`, (POINTS,); None unless both classes are there.

    Ties are a straight line, as in the area; at a vertical step the upper end counts.
    """
    hits, misses = found
    if not hits[-1] or not misses[-1]:
        return None
    false_rate, true_rate = misses / misses[-1], hits / hits[-1]
    # The last of equal false positive rates is the upper end of the step.
    upper = np.append(np.flatnonzero(np.diff(false_rate) > 0), len(false_rate) - 1)
    lower = np.append(0, upper[:-1] + 1)
    right = np.searchsorted(false_rate[upper], GRID, side="left")
    exact = false_rate[upper][right] == GRID
    left = np.maximum(right - 1, 0)
    x0, y0, x1, y1 = false_rate[upper][left], true_rate[upper][left], false_rate[lower][right], true_rate[lower][right]
    with np.errstate(invalid="ignore", divide="ignore"):
        between = y0 + (y1 - y0) * (GRID - x0) / (x1 - x0)
    return np.where(exact, true_rate[upper][right], between)


def precision_recall(found: Counts) -> np.ndarray | None:
    """Return the precision at the highest threshold that reaches each recall of `GRID`, (POINTS,); None without positives.

    Nothing is interpolated; at a recall of zero it is the precision of the highest score.
    """
    hits, misses = found
    if not hits[-1]:
        return None
    reached = np.searchsorted(hits[1:], np.maximum(np.ceil(GRID * hits[-1] - 1e-9), 1e-9), side="left") + 1
    return hits[reached] / (hits[reached] + misses[reached])
