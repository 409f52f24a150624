"""What more of which would buy: the variance of a mean over draws by its sources, and half widths with more draws or more patients.

The value of one draw on one test set is a mean, an effect of the draw, an effect of the patients and what is left (their interaction and
the case error of a single run). In the terms of Obuchowski and Rockette (1995) these are `max(MS - (Var - Cov2), 0)`, `max(Cov2, 0)` and
`max(Var - Cov2, 0)`; the mean square of draws holds the first and the last (Roe & Metz 1997; Hillis, Obuchowski & Berbaum 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.report.stats import intervals
from orchestrator.report.stats.influence import products
from orchestrator.report.stats.multireader import crossed

#: One more draw is worth its price while it narrows the interval by this share and more.
WORTH = 0.05
#: Forecasts stop here: what would need more draws is left to more patients.
MOST_DRAWS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One arm, or a difference within matched draws: its mean square, and what its cases add."""

    draws: int
    ms: float
    #: Mean variance of one draw's value over patients less the mean covariance of two draws' values.
    single: float

    @property
    def draw(self) -> float:
        """Return the variance of the effect of a draw."""
        return max(self.ms - max(self.single, 0.0), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A variance by its sources: one side, or two whose draws are not matched."""

    sides: tuple[Side, ...]
    #: Covariance over patients of two draws' values: what no number of draws takes away. May be negative by chance.
    shared: float

    @property
    def draw(self) -> float:
        """Return the variance of the effect of one draw, summed over sides."""
        return math.fsum(side.draw for side in self.sides)

    @property
    def patient(self) -> float:
        """Return the variance of the effect of the patients on every draw alike."""
        return max(self.shared, 0.0)

    @property
    def interaction(self) -> float:
        """Return the variance of what patients do to one draw alone, summed over sides."""
        return math.fsum(max(side.single, 0.0) for side in self.sides)

    def variance(self, more: int = 0, patients: float = 1.0) -> tuple[float, float]:
        """Return the variance of the mean and its degrees of freedom with `more` draws a side and `patients` times as many patients.

        With nothing more it is what the analysis of draws and patients gave, its floor (the variance with the draws held fixed) included.
        """
        parts = [(self._mean_square(side, patients) / (side.draws + more), side.draws + more - 1) for side in self.sides]
        both = math.fsum(part for part, _ in parts) + self.patient / patients
        fixed = (math.fsum(side.single / (side.draws + more) for side in self.sides) + self.shared) / patients
        spread = math.fsum(part**2 / df for part, df in parts if df > 0)
        return max(both, fixed), both**2 / spread if spread > 0 else math.inf

    def _mean_square(self, side: Side, patients: float) -> float:
        return side.draw + (side.ms - side.draw) / patients


def split(values: np.ndarray, influence: np.ndarray) -> Split | None:
    """Split the variance of one arm, or of a matched difference: `values` (draws,), `influence` (draws, clusters). None with one draw."""
    found = crossed(values, influence)
    if found.ms is None or found.cov_case is None:
        return None
    return Split(sides=(Side(draws=found.draws, ms=found.ms, single=found.var_case - found.cov_case),), shared=found.cov_case)


def split_nested(a: np.ndarray, influence_a: np.ndarray, b: np.ndarray, influence_b: np.ndarray) -> Split | None:
    """Split the variance of a difference of arms whose draws are not matched. None when either has one draw."""
    one, other = split(a, influence_a), split(b, influence_b)
    if one is None or other is None:
        return None
    across = float(products(influence_a, influence_b).mean())
    return Split(sides=(*one.sides, *other.sides), shared=one.shared + other.shared - 2 * across)


def borrowed(case_variance: float, lender: Split) -> tuple[float, float]:
    """Return the variance of a lone run's value over new draws and patients, and its degrees of freedom, with the draws of a lender.

    The run knows its variance over patients; what a draw adds is taken from where there are draws. The degrees of freedom are
    Satterthwaite's, with the lender's mean squares, from which its draw component comes.
    """
    total = case_variance + lender.draw
    spread = math.fsum(side.ms**2 / (side.draws - 1) for side in lender.sides)
    return total, total**2 / spread if spread > 0 else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a standard error becomes an interval: on the logit scale around an area, raw around a difference."""

    value: float
    confidence: float
    on_logit: bool

    def half_width(self, variance: float, df: float) -> float:
        """Return half the width of the interval."""
        se = math.sqrt(max(variance, 0.0))
        if se == 0.0:
            return 0.0
        make = intervals.on_logit if self.on_logit else intervals.raw
        low, high = make(self.value, se, df, self.confidence)
        return (high - low) / 2


def half_width(found: Split, scale: Scale, *, more: int = 0, patients: float = 1.0) -> float:
    """Return the half width that is expected with `more` draws a side and `patients` times as many patients."""
    return scale.half_width(*found.variance(more, patients))


def limit(found: Split, scale: Scale) -> float:
    """Return the half width that no number of draws goes below: the patients are what they are."""
    endless = replace(found, sides=tuple(replace(side, ms=0.0, single=0.0) for side in found.sides))
    return scale.half_width(endless.variance()[0], math.inf)


def enough_draws(found: Split, scale: Scale) -> int:
    """Return how many more draws a side are worth it: each of them narrows the interval by `WORTH` or more."""
    return _more(lambda more: _gain(found, scale, more) < WORTH) or 0


def draws_for(found: Split, scale: Scale, wanted: float) -> int | None:
    """Return how many more draws a side bring the half width to a wanted one; None when no number up to `MOST_DRAWS` does."""
    return _more(lambda more: half_width(found, scale, more=more) <= wanted)


def patients_for(found: Split, scale: Scale, wanted: float) -> float | None:
    """Return how many times as many patients bring the half width to a wanted one; None when the draws alone are wider."""
    for quarters in range(4, 4 * MOST_DRAWS + 1):
        if half_width(found, scale, patients=quarters / 4) <= wanted:
            return quarters / 4
    return None


def _gain(found: Split, scale: Scale, more: int) -> float:
    now = half_width(found, scale, more=more)
    return 0.0 if now == 0 else 1 - half_width(found, scale, more=more + 1) / now


def _more(done: Callable[[int], bool]) -> int | None:
    return next((more for more in range(MOST_DRAWS + 1) if done(more)), None)
