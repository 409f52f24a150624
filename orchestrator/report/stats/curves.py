"""What is read off label-efficiency curves, draw chain by draw chain: areas between curves, trends, and labels that are worth as much.

A chain is one replicate followed through every number of labels. Anything linear in a chain's values (an area, a slope, a difference from
an interpolated curve) is one number a chain with influence values of its own, so the analysis of draws and patients serves it unchanged.
Curves are read in the logarithm of the number of labels, never beyond the smallest and the largest number that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
from scipy import optimize

from orchestrator.report.stats import intervals
from orchestrator.report.stats.multireader import TwoWay, crossed, nested

#: Points between two numbers of labels at which the ends of an interval are looked for before they are refined.
STEPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Chains:
    """One arm: `values` (chains, sizes) and `influence` (chains, sizes, clusters)."""

    values: np.ndarray
    influence: np.ndarray

    def read(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return one number a chain (chains,) and its influence (chains, clusters): the sum over sizes with some weights."""
        return self.values @ weights, np.einsum("dkg,k->dg", self.influence, weights, optimize=False)

    def level(self, size: int) -> Chains:
        """Return the chains at one size alone."""
        return Chains(values=self.values[:, [size]], influence=self.influence[:, [size]])


def area_weights(x: np.ndarray) -> np.ndarray:
    """Return weights (sizes,) whose sum with a curve is its mean height over `x` (ascending): the trapezoid rule over the span."""
    gaps = np.diff(x)
    weights = np.zeros(len(x))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    return weights / (x[-1] - x[0])


def trend_weights(x: np.ndarray) -> np.ndarray:
    """Return weights (sizes,) whose sum with a curve is its least-squares slope over `x`."""
    centred = x - x.mean()
    return centred / (centred**2).sum()


def analyse(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], *, matched: bool) -> TwoWay:
    """Analyse `a - b`, each (values, influence): within chains when they are matched, else each side with chains of its own."""
    if matched:
        return crossed(a[0] - b[0], a[1] - b[1])
    return nested(a[0], a[1], b[0], b[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where a curve reaches a level, in the unit of `x`. An end of the interval is None where it lies outside of what was measured."""

    #: None when the level lies outside of the curve: then `beyond` is `above` (never reached) or `below` (reached from the start).
    value: float | None
    beyond: str
    low: float | None
    high: float | None
    #: Whether there is an interval at all: a side with a single chain has none.
    has_interval: bool


def reached(level: float, curve: np.ndarray, x: np.ndarray) -> tuple[float | None, str]:
    """Return the smallest `x` at which the monotone fit of a curve (sizes,) reaches a level, and where the level lies if none does."""
    fitted = _smoother(curve) @ curve
    if level > fitted[-1]:
        return None, "above"
    if level < fitted[0]:
        return None, "below"
    after = int(np.argmax(fitted >= level))
    if after == 0:
        return float(x[0]), ""
    share = (level - fitted[after - 1]) / (fitted[after] - fitted[after - 1])
    return float(x[after - 1] + share * (x[after] - x[after - 1])), ""


def reach(level: Chains, curve: Chains, x: np.ndarray, confidence: float, *, matched: bool) -> Reach:
    """Return where the mean curve reaches a mean level (chains, 1), with the interval of all places that the data do not rule out.

    The curve is the monotone fit (pool adjacent violators) of the mean over chains, linear between sizes. A place is ruled out when the
    level differs there from the curve at the given confidence, by the analysis of draws and patients of one number a chain: Fieller's
    (1954) interval, which is open where the data allow any place beyond the last size, instead of an extrapolation.
    """
    smooth = _smoother(curve.values.mean(axis=0))
    value, beyond = reached(float(level.values.mean()), curve.values.mean(axis=0), x)
    at_level = level.read(np.ones(1))

    def difference(at: float) -> TwoWay:
        return analyse(at_level, curve.read(smooth.T @ _between(x, at)), matched=matched)

    if difference(float(x[0])).variance_both is None:
        return Reach(value=value, beyond=beyond, low=None, high=None, has_interval=False)
    low, high = _allowed(difference, x, confidence)
    return Reach(value=value, beyond=beyond, low=low, high=high, has_interval=True)


def _smoother(curve: np.ndarray) -> np.ndarray:
    """Return the matrix (sizes, sizes) that takes a curve to its monotone fit: means over blocks of adjacent violators."""
    blocks = np.asarray(optimize.isotonic_regression(curve).blocks)
    matrix = np.zeros((len(curve), len(curve)))
    for start, end in pairwise(blocks):
        matrix[start:end, start:end] = 1 / (end - start)
    return matrix


def _between(x: np.ndarray, at: float) -> np.ndarray:
    """Return the weights (sizes,) of linear interpolation at a place."""
    return np.array([np.interp(at, x, row) for row in np.eye(len(x))])


def _allowed(difference: Callable[[float], TwoWay], x: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    """Return the first and the last place where the difference may be zero; None for an end that lies outside."""

    def below(at: float) -> float:
        return _clear(difference(at), confidence)

    def above(at: float) -> float:
        return _clear(difference(at), confidence, sign=-1)

    grid = np.unique(np.concatenate([np.linspace(left, right, STEPS + 1) for left, right in pairwise(x)]))
    found = [difference(at) for at in grid]
    may_start = np.flatnonzero([_clear(one, confidence) <= 0 for one in found])
    may_end = np.flatnonzero([_clear(one, confidence, sign=-1) <= 0 for one in found])
    if not len(may_start):
        return float(x[-1]), None
    if not len(may_end):
        return None, float(x[0])
    first, last = int(may_start[0]), int(may_end[-1])
    return (
        None if first == 0 else _root(below, grid[first - 1], grid[first]),
        None if last == len(grid) - 1 else _root(above, grid[last], grid[last + 1]),
    )


def _clear(found: TwoWay, confidence: float, sign: int = 1) -> float:
    """Return by how much a difference, taken with a sign, clears zero: above 0 it is ruled out that it is zero or less."""
    return sign * found.value - intervals.quantile(confidence, found.df_both) * math.sqrt(found.variance_both or 0.0)


def _root(function: Callable[[float], float], left: float, right: float) -> float:
    return float(cast(float, optimize.brentq(function, left, right, xtol=1e-12)))
