"""Logistic regressions of many labels on the same features, solved together: the products that take the time are done once for all.

The solutions are those of `trainers.parts.logistic`, to the same gradient norm; only rounding differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from trainers.parts.logistic import TOLERANCE, Fit, Floats, Standard, base_rate, merit, solve

#: Pairs of a step and its change of gradient that L-BFGS remembers (Nocedal & Wright 2006, algorithm 7.4).
_MEMORY = 12
_ROUNDS, _LINE_ROUNDS = 600, 20


def fit_together(
    features: Floats, truth: Floats, *, penalties: Sequence[float], validation: tuple[Floats, Floats] | None = None
) -> list[Fit]:
    """Fit each column of `truth` as `trainers.parts.logistic.fit` does, all columns at once. Raises what `fit` raises."""
    if len(penalties) > 1 and validation is None:
        raise ValueError("several penalties need a validation split to choose on")
    features = features.astype(np.float64)
    standard = Standard.of(features)
    known = ~np.isnan(truth)
    answers = np.where(known, truth, 0.0).astype(np.float64)
    both = (answers * known).any(0) & ((1 - answers) * known).any(0)
    where = np.flatnonzero(both)
    problem = _Problem(*_rotated(standard.apply(features)), answers[:, where], known[:, where])
    grid = sorted(penalties, reverse=True)
    best = _path(problem, standard, grid, None if validation is None else (validation[0], validation[1][:, where]))
    found = dict(zip(where.tolist(), best, strict=True))
    return [
        found[column] if column in found else base_rate(truth[known[:, column], column], features.shape[1], grid[0])
        for column in range(truth.shape[1])
    ]


def _rotated(design: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the design on its principal axes (n, r), the rotation back (d, r), and the square of what each axis holds, (r,).

    A ridge penalty does not see a rotation, and along these axes the curvature is known before anything is solved.
    """
    n, d = design.shape
    if n < d:
        left, held, right = np.linalg.svd(design, full_matrices=False)
        return left * held, right.T, held**2
    squares, back = np.linalg.eigh(design.T @ design)
    return design @ back, back, np.maximum(squares, 0.0)


def _path(problem: _Problem, standard: Standard, penalties: list[float], validation: tuple[Floats, Floats] | None) -> list[Fit]:
    """Follow the penalties from the strongest down, each from the last one's solution, and keep the best of each label."""
    best: list[tuple[float, Fit]] = []
    start = np.zeros((problem.design.shape[1] + 1, problem.answers.shape[1]))
    for penalty in penalties:
        start = problem.solve(penalty, start)
        weights = problem.unrotated(start[:-1]) / standard.spread[:, None]
        biases = start[-1] - standard.mean @ weights
        here = [Fit(weight=weights[:, at].copy(), bias=float(biases[at]), penalty=penalty) for at in range(start.shape[1])]
        logits = None if validation is None else validation[0] @ weights + biases
        values = [0.0 if validation is None or logits is None else merit(validation[1][:, at], logits[:, at]) for at in range(len(here))]
        pairs = list(zip(values, here, strict=True))
        best = [new if new[0] > old[0] else old for old, new in zip(best, pairs, strict=True)] if best else pairs
    return [fit for _, fit in best]


@dataclass(slots=True)
class _Problem:
    """Several labels on one design."""

    design: Floats  # (n, r)
    back: Floats  # (d, r)
    squares: Floats  # (r,)
    answers: Floats  # (n, L)
    known: np.ndarray  # (n, L) bool

    def unrotated(self, weights: Floats) -> Floats:
        """Return weights (d, L) on the features themselves."""
        return self.back @ weights

    def solve(self, penalty: float, start: Floats) -> Floats:
        """Return weights and biases (r + 1, L) whose gradient has a norm of at most 1e-8 in every column.

        L-BFGS, a column each with its own memory and its own exact line search; a column that does not get there is solved alone.
        """
        if penalty <= 0:
            raise ValueError(f"penalty {penalty}: must be above 0, or separable data have no solution")
        solution, left = start.copy(), np.arange(start.shape[1])
        search = _Search(self, penalty, left, solution)
        for _ in range(_ROUNDS):
            done = search.norms() <= TOLERANCE
            if done.any():
                solution[:, left[done]] = search.point[:, done]
                left = left[~done]
                search = search.kept(~done, left)
            if not len(left):
                return solution
            search.step()
        for at, column in enumerate(left.tolist()):
            rows = self.known[:, column]
            solution[:, column] = solve(self.design[rows], self.answers[rows, column], penalty, search.point[:, at])
        return solution


@dataclass(slots=True)
class _Search:
    """Where the columns that are left stand, and what each remembers."""

    problem: _Problem
    penalty: float
    columns: np.ndarray
    point: Floats
    logits: Floats = field(init=False)
    gradient: Floats = field(init=False)
    _answers: Floats = field(init=False)
    _known: Floats = field(init=False)
    _counts: Floats = field(init=False)
    _inverse: Floats = field(init=False)
    _pairs: list[tuple[Floats, Floats, Floats]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._answers = np.ascontiguousarray(self.problem.answers[:, self.columns])
        self._known = self.problem.known[:, self.columns].astype(np.float64)
        self._counts = self._known.sum(0)
        self.logits = self.problem.design @ self.point[:-1] + self.point[-1]
        self.gradient = self._gradient()
        rate = expit(self.logits)
        curvature = np.maximum((rate * (1 - rate) * self._known).sum(0) / self._counts, 1e-6)
        share = self._counts / len(self._known)
        axes = self.penalty + np.outer(self.problem.squares, curvature * share)
        #: The inverse of the Hessian's diagonal, were every image as curved as the mean of them.
        self._inverse = self._counts / np.vstack([axes, curvature * self._counts])

    def norms(self) -> Floats:
        """Return the norm of the gradient of each column's objective, a sum over its images."""
        return np.sqrt((self.gradient**2).sum(0)) * self._counts

    def kept(self, where: np.ndarray, columns: np.ndarray) -> _Search:
        """Return the same search over some of its columns."""
        fewer = _Search(self.problem, self.penalty, columns, np.ascontiguousarray(self.point[:, where]))
        fewer._pairs = [(step[:, where], change[:, where], curvature[where]) for step, change, curvature in self._pairs]
        return fewer

    def step(self) -> None:
        """Go to the minimum along each column's direction."""
        direction = -self._times_inverse(self.gradient)
        slope = (self.gradient * direction).sum(0)
        # The objective is strictly convex, so a direction that is not downhill comes from rounding: start anew with the gradient.
        upward = slope >= 0
        direction[:, upward] = -self.gradient[:, upward]
        along = self.problem.design @ direction[:-1] + direction[-1]
        length = self._length(direction, along)
        step = direction * length
        before = self.gradient
        self.point = self.point + step
        self.logits = self.logits + along * length
        self.gradient = self._gradient()
        change = self.gradient - before
        curvature = (step * change).sum(0)
        self._pairs = [*self._pairs[-(_MEMORY - 1) :], (step, change, curvature)]

    def _gradient(self) -> Floats:
        residual = (expit(self.logits) - self._answers) * self._known
        weights = self.problem.design.T @ residual + self.penalty * self.point[:-1]
        return np.vstack([weights, residual.sum(0)]) / self._counts

    def _times_inverse(self, vectors: Floats) -> Floats:
        """Return the inverse Hessian, as far as the memory knows it, times a vector a column (the two-loop recursion)."""
        useful = [(step, change, curvature, curvature > 1e-300) for step, change, curvature in self._pairs]
        q = vectors.copy()
        shares: list[Floats] = []
        for step, change, curvature, there in reversed(useful):
            share = np.where(there, (step * q).sum(0) / np.where(there, curvature, 1.0), 0.0)
            q -= share * change
            shares.append(share)
        q *= self._inverse
        for (step, change, curvature, there), share in zip(useful, reversed(shares), strict=True):
            other = np.where(there, (change * q).sum(0) / np.where(there, curvature, 1.0), 0.0)
            q += (share - other) * step
        return q

    def _length(self, direction: Floats, along: Floats) -> Floats:
        """Return for each column where the derivative along its direction is zero, by Newton's method inside a bracket."""
        flat = self.penalty * (direction[:-1] ** 2).sum(0)
        toward = self.penalty * (self.point[:-1] * direction[:-1]).sum(0)
        length, low, high = np.ones(along.shape[1]), np.zeros(along.shape[1]), np.full(along.shape[1], np.inf)
        largest = np.zeros(along.shape[1])
        for _ in range(_LINE_ROUNDS):
            rate = expit(self.logits + length * along)
            derivative = ((rate - self._answers) * self._known * along).sum(0) + toward + length * flat
            bend = (rate * (1 - rate) * self._known * along**2).sum(0) + flat
            largest = np.maximum(largest, np.abs(derivative))
            if (np.abs(derivative) <= 1e-3 * largest).all():
                break
            low, high = np.where(derivative < 0, length, low), np.where(derivative < 0, high, length)
            newton = length - derivative / np.maximum(bend, 1e-300)
            middle = np.where(np.isinf(high), 4 * length, (low + high) / 2)
            length = np.where((newton > low) & (newton < high), newton, middle)
        return length
