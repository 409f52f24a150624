"""How original studies made their intervals, kept as they are so that their tables can be read: not for claims of one's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The number of resamples whose order statistics the originals' rules were written for.
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What an original prints of one quantity."""

    value: float
    low: float
    high: float


def moco_cxr_interval(replicates: np.ndarray) -> Bounds:
    """Return what MoCo-CXR's `confidence_interval.py` prints of bootstrap replicates (resamples,): mean and bounds to three decimals.

    The bounds are the sorted values at `int(a/2 n) - 1` and `int((1 - a/2) n) - 1` with a = .05 whatever level is asked for: the 25th and
    the 975th of 1,000. Below 40 resamples the lower place is -1, the largest value. The value is the bootstrap mean, not the statistic.
    Raises ValueError on a replicate that is not finite, and on none.
    """
    ordered, count = _sorted(replicates), len(replicates)
    alpha = 1 - 0.95
    low, high = ordered[int(alpha / 2 * count) - 1], ordered[int((1 - alpha / 2) * count) - 1]
    return Bounds(value=round(float(np.mean(ordered)), 3), low=round(float(low), 3), high=round(float(high), 3))


def unichest_interval(value: float, replicates: np.ndarray) -> Bounds:
    """Return the bounds that UniChest's test helper takes: the sorted values at places 50 and 950 of 1,000, a 90 % interval.

    Raises ValueError unless there are 1,000 finite replicates, for which the places were written.
    """
    ordered = _sorted(replicates)
    if len(ordered) != RESAMPLES:
        raise ValueError(f"places 50 and 950 are of 1,000 resamples, got {len(ordered):,}")
    return Bounds(value=value, low=float(ordered[50]), high=float(ordered[950]))


def unichest_macro(findings: list[Bounds]) -> Bounds:
    """Return UniChest's row over findings: the means of the values and of the bounds. Averaged bounds are no interval of an average."""
    return Bounds(
        value=float(np.mean([one.value for one in findings])),
        low=float(np.mean([one.low for one in findings])),
        high=float(np.mean([one.high for one in findings])),
    )


def mean_and_population_sd(values: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation over runs as Ark and the benchmark of transformers print them: divided by n, not by n - 1."""
    return float(np.mean(values)), float(np.std(values))


def _sorted(replicates: np.ndarray) -> np.ndarray:
    if not len(replicates) or not np.isfinite(replicates).all():
        raise ValueError(f"{int((~np.isfinite(replicates)).sum())} of {len(replicates)} replicates are not finite")
    return np.sort(replicates)
