"""Intervals and p values from a standard error, and the one that stands at the edge of the scale."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from scipy import optimize, special


def quantile(confidence: float, df: float) -> float:
    """Return the two-sided critical value of Student's t, or of the normal when `df` is infinite."""
    upper = 0.5 + confidence / 2
    return float(special.ndtri(upper)) if math.isinf(df) else float(special.stdtrit(df, upper))


def raw(value: float, se: float, df: float, confidence: float) -> tuple[float, float]:
    """Return `value` plus and minus the critical value times `se`: for differences."""
    half = quantile(confidence, df) * se
    return value - half, value + half


def on_logit(value: float, se: float, df: float, confidence: float) -> tuple[float, float]:
    """Return an interval inside (0, 1), symmetric on the logit scale (delta method): for an area. Raises ValueError at 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"an area of {value} has no logit; use `newcombe`")
    centre = math.log(value / (1 - value))
    half = quantile(confidence, df) * se / (value * (1 - value))
    return float(special.expit(centre - half)), float(special.expit(centre + half))


def newcombe(value: float, positives: int, negatives: int, confidence: float) -> tuple[float, float]:
    """Return the score interval of an area that still has a width at 0 and 1 (Newcombe 2006, part 2, method 5).

    Solves `|value - t| = z sqrt(V(t))` with `V(t) = t(1-t) (1 + (N-1)((1-t)/(2-t) + t/(1+t))) / mn`, `N = (m+n)/2`.
    """
    z = quantile(confidence, math.inf)
    return _lower(value, positives, negatives, z), 1.0 - _lower(1.0 - value, positives, negatives, z)


def _lower(value: float, positives: int, negatives: int, z: float) -> float:
    if value <= 0.0:
        return 0.0

    def excess(t: float) -> float:
        spread = 1 + ((positives + negatives) / 2 - 1) * ((1 - t) / (2 - t) + t / (1 + t))
        variance_over_rest = t * spread / (positives * negatives)
        if value >= 1.0:  # both sides vanish at t = 1: divide by 1 - t
            return (1 - t) - z * z * variance_over_rest
        return (value - t) ** 2 - z * z * (1 - t) * variance_over_rest

    return float(cast(float, optimize.brentq(excess, 0.0, min(value, 1.0), xtol=1e-14)))


def p_two_sided(value: float, se: float, df: float) -> float:
    """Return the two-sided p value of `value` against zero."""
    ratio = abs(value) / se
    return float(2 * special.ndtr(-ratio)) if math.isinf(df) else float(2 * special.stdtr(df, -ratio))


def percentile(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the central percentile interval of bootstrap replicates (linear between order statistics); NaN must be left out before."""
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def p_bootstrap(differences: np.ndarray) -> float:
    """Return the two-sided bootstrap p value of a difference: never below 2 / (replicates + 1)."""
    total = len(differences) + 1
    return float(min(1.0, 2 * min((1 + (differences <= 0).sum()) / total, (1 + (differences >= 0).sum()) / total)))


def bca(replicates: np.ndarray, value: float, influence: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated interval of bootstrap replicates (Efron 1987); NaN must be left out before.

    The bias is `z0 = Phi^-1((#{r < value} + #{r <= value}) / 2B)`, ties counting half, and the acceleration
    `a = sum phi^3 / (6 (sum phi^2)^1.5)` over the influence values of the resampled units (patients: summed within each), which needs no
    jackknife. None where all replicates lie on one side of the value, or its influence values are all zero.
    """
    spread = float((influence**2).sum())
    share = float(((replicates < value).sum() + (replicates <= value).sum()) / (2 * max(1, len(replicates))))
    if not 0.0 < share < 1.0 or spread == 0.0:
        return None
    z0, acceleration = float(special.ndtri(share)), float((influence**3).sum()) / (6 * spread**1.5)
    ends = []
    for tail in (0.5 - confidence / 2, 0.5 + confidence / 2):
        moved = z0 + float(special.ndtri(tail))
        rest = 1 - acceleration * moved
        if rest <= 0:
            return None
        ends.append(float(special.ndtr(z0 + moved / rest)))
    low, high = np.quantile(replicates, ends)
    return float(low), float(high)
