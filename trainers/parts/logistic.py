"""L2-penalised logistic regression by a deterministic full-batch solver: one problem, one solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from trainers.errors import Error
from trainers.parts.metrics import auroc, log_loss, slug

Floats = NDArray[np.floating[Any]]

#: What every solution reaches: the Euclidean norm of the gradient of the objective, a sum over images. With the weakest penalty the
#: weights are then right to about 1e-7, so that one solver's scores are another's.
TOLERANCE = 1e-8
_ROUNDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One linear classifier on raw features: logit = x . weight + bias."""

    weight: Floats  # (d,)
    bias: float
    penalty: float
    #: False when the labels held one class only, so that nothing but the base rate could be fitted.
    estimable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """Mean and spread of the training features."""

    mean: Floats  # (d,)
    spread: Floats  # (d,)

    @staticmethod
    def of(features: Floats) -> Standard:
        """Measure features, (n, d); a feature that never varies gets spread 1."""
        spread = features.std(0)
        return Standard(mean=features.mean(0), spread=np.where(spread > 1e-12, spread, 1.0))

    def apply(self, features: Floats) -> Floats:
        """Return standardised features."""
        return (features - self.mean) / self.spread


def fit(features: Floats, truth: Floats, *, penalties: Sequence[float], validation: tuple[Floats, Floats] | None = None) -> list[Fit]:
    """Fit each column of `truth`, (n, L) with NaN where unknown, on features (n, d), in float64.

    Minimises sum(BCE) + penalty / 2 * |w|^2 on standardised features, the bias unpenalised (scikit-learn's C is 1 / penalty).
    With several penalties, `validation` (features, truth) chooses one a label: the highest AUROC, the lowest loss where that cannot
    be estimated, the strongest penalty of equals. Raises ValueError when several penalties come without validation.
    """
    if len(penalties) > 1 and validation is None:
        raise ValueError("several penalties need a validation split to choose on")
    features = features.astype(np.float64)
    standard = Standard.of(features)
    design = standard.apply(features)
    grid = sorted(penalties, reverse=True)
    return [_fit_label(design, truth[:, column], standard, grid, _column(validation, column)) for column in range(truth.shape[1])]


def described(fits: Sequence[Fit], labels: Sequence[str]) -> dict[str, float]:
    """Return what to log of a fit: the penalty of each label that could be fitted, and how many could not."""
    found = {f"train/penalty/{slug(label)}": one.penalty for label, one in zip(labels, fits, strict=True) if one.estimable}
    return {**found, "train/not_estimable": float(sum(not one.estimable for one in fits))}


def _column(validation: tuple[Floats, Floats] | None, column: int) -> tuple[Floats, Floats] | None:
    return None if validation is None else (validation[0], validation[1][:, column])


def _fit_label(design: Floats, truth: Floats, standard: Standard, penalties: list[float], validation: tuple[Floats, Floats] | None) -> Fit:
    known = ~np.isnan(truth)
    x, y = design[known], truth[known].astype(np.float64)
    if not (y == 1).any() or not (y == 0).any():
        return base_rate(y, design.shape[1], penalties[0])
    best: tuple[float, Fit] | None = None
    start = np.zeros(x.shape[1] + 1)
    for penalty in penalties:
        start = solve(x, y, penalty, start)
        weight = start[:-1] / standard.spread
        found = Fit(weight=weight, bias=float(start[-1] - standard.mean @ weight), penalty=penalty)
        value = 0.0 if validation is None else merit(validation[1], validation[0] @ found.weight + found.bias)
        if best is None or value > best[0]:
            best = (value, found)
    if best is None:
        raise ValueError("no penalty was given")
    return best[1]


def base_rate(truth: Floats, width: int, penalty: float) -> Fit:
    """Return the fit of a label that holds one class only, or none: its rate, with half an image added to either class."""
    rate = (truth.sum(dtype=np.float64) + 0.5) / (len(truth) + 1.0)
    return Fit(weight=np.zeros(width), bias=float(np.log(rate / (1 - rate))), penalty=penalty, estimable=False)


def merit(truth: Floats, logit: Floats) -> float:
    """Return what a penalty is chosen by on validation: the AUROC, minus the log loss where that cannot be had, 0 without either."""
    area = auroc(truth, logit)
    if area is not None:
        return area
    loss = log_loss(truth, logit)
    return 0.0 if loss is None else -loss


def solve(x: Floats, y: Floats, penalty: float, start: Floats | None = None) -> Floats:
    """Return (weights, bias), (d + 1,), that minimise sum(BCE) + penalty / 2 * |w|^2 for x (n, d) and y (n,) in {0, 1}.

    L-BFGS in float64, then Newton steps until the norm of the gradient is below 1e-8, which a line search on function values alone
    does not reach. Raises ValueError for a penalty of 0 or less, Error when the norm cannot be reached.
    """
    if penalty <= 0:
        raise ValueError(f"penalty {penalty}: must be above 0, or separable data have no solution")
    n = len(x)

    def value_and_gradient(w: Floats) -> tuple[float, Floats]:
        logit = x @ w[:-1] + w[-1]
        residual = expit(logit) - y
        value = np.logaddexp(0.0, logit).sum() - y @ logit + 0.5 * penalty * (w[:-1] @ w[:-1])
        gradient = np.append(x.T @ residual + penalty * w[:-1], residual.sum())
        return float(value) / n, gradient / n

    w = np.zeros(x.shape[1] + 1) if start is None else start
    options = {"maxiter": 500, "gtol": TOLERANCE, "ftol": 1e-15}
    w = np.asarray(minimize(value_and_gradient, w, jac=True, method="L-BFGS-B", options=options).x)
    for _ in range(_ROUNDS):
        value, gradient = value_and_gradient(w)
        if n * np.linalg.norm(gradient) <= TOLERANCE:
            return w
        w = w - _newton_step(x, w, gradient, penalty)
    value, gradient = value_and_gradient(w)
    raise Error(
        f"the logistic solver stopped at objective {n * value:.3g} with a gradient of {n * np.linalg.norm(gradient):.1e}: "
        f"raise the penalty ({penalty})"
    )


def _newton_step(x: Floats, w: Floats, gradient: Floats, penalty: float) -> Floats:
    """Solve Hessian * step = gradient by conjugate gradients; the objective is strictly convex."""
    n = len(x)
    rate = expit(x @ w[:-1] + w[-1])
    curvature = rate * (1 - rate)

    def hessian(v: Floats) -> Floats:
        weighted = curvature * (x @ v[:-1] + v[-1])
        return np.append(x.T @ weighted + penalty * v[:-1], weighted.sum()) / n

    step, residual = np.zeros_like(w), gradient.copy()
    direction, size = residual.copy(), float(residual @ residual)
    goal = size * 1e-12
    for _ in range(2 * len(w)):
        if size <= goal:
            break
        applied = hessian(direction)
        along = float(direction @ applied)
        if along <= 0:
            break
        step += size / along * direction
        residual -= size / along * applied
        new = float(residual @ residual)
        direction = residual + new / size * direction
        size = new
    return step
