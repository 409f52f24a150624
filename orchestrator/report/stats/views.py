"""Views over labels and draws that ask what a mean hides (Agarwal et al. 2021). Labels share patients and models, so a view has an
interval from the crossed bootstrap or none.

Areas are (draws, labels, resamples) throughout; a label of which a class was not drawn is NaN and is left out of that resample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from orchestrator.report.stats.bootstrap import Counts, drawn_again, of_side


def interquartile_mean(areas: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of all labels and draws together in every resample, (resamples,); NaN where there is no value.

    A quarter of the values, rounded down, is left out at either end.
    """
    values = np.sort(areas.reshape(-1, areas.shape[-1]), axis=0)
    known = np.isfinite(values).sum(axis=0)
    cut = known // 4
    place = np.arange(len(values))[:, None]
    middle = (place >= cut) & (place < known - cut)
    with np.errstate(invalid="ignore"):
        return np.where(middle, values, 0.0).sum(axis=0) / middle.sum(axis=0)


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return how often a run of the first arm beats one of the second, ties counting half, averaged over labels: (resamples,).

    Each run of one arm is set against each of the other. NaN where there is no value. Raises ValueError when labels or resamples differ.
    """
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"draws by labels by resamples are needed of both arms, got {first.shape} and {second.shape}")
    won = np.zeros(first.shape[1:])
    for one in first:
        won += (np.sign(one - second) / 2 + 0.5).sum(axis=0)
    with np.errstate(invalid="ignore"):
        share = won / (len(first) * len(second))
        known = np.isfinite(share)
        return np.where(known, share, 0.0).sum(axis=0) / known.sum(axis=0)


def crossed_replicates(
    statistic: Callable[..., np.ndarray], sides: Sequence[np.ndarray], counts: Counts, *, matched: bool = True
) -> np.ndarray:
    """Return a statistic of the areas of one arm or two in every resample of patients and draws, (resamples,); labels are held fixed.

    As in `bootstrap.mean_over_draws`, which this is for a mean, draws are resampled independently of the patients (Owen 2007) and what
    that moves is widened by sqrt(D / (D - 1)). Matched arms take the same draws; others are redrawn each by itself, and what either
    moves is added.
    """
    fixed = statistic(*sides)
    values = fixed.copy()
    for index, moving in enumerate([range(len(sides))] if matched else [(side,) for side in range(len(sides))]):
        draws, _, total = sides[moving[0]].shape
        if draws > 1:
            taken = drawn_again(draws, total, of_side(counts, index))[:, None]
            again = [np.take_along_axis(side, taken, axis=0) if place in moving else side for place, side in enumerate(sides)]
            values += np.sqrt(draws / (draws - 1)) * (statistic(*again) - fixed)
    return values
