"""Views over labels and draws that ask what a mean hides. Labels share patients and models, so a view has an interval from the crossed
bootstrap or none.
"""

from __future__ import annotations

import numpy as np


def interquartile_mean(values: np.ndarray) -> float | None:
    """Return the mean of the middle half of all values, those of every label and draw together; None when there are none.

    A quarter of the values, rounded down, is left out at either end (Agarwal et al. 2021). Raises ValueError on a value that is not finite.
    """
    ordered = np.sort(_finite(values).ravel())
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean()) if len(ordered) else None


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return how often a run of the first arm beats one of the second, ties counting half, averaged over labels; None without runs.

    `first` is (runs, labels) and `second` (other runs, labels); each run of one is set against each of the other (Agarwal et al. 2021).
    Raises ValueError when they are not of the same labels, and on a value that is not finite.
    """
    a, b = _finite(first), _finite(second)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"runs by labels are needed of both arms, got {a.shape} and {b.shape}")
    if not a.size or not b.size:
        return None
    return float((np.sign(a[:, None] - b[None]) / 2 + 0.5).mean())


def _finite(values: np.ndarray) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{int((~np.isfinite(found)).sum())} values are not finite; leave their label out for every arm, and say so")
    return found
