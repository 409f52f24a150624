"""Draws and patients are both random: the Obuchowski-Rockette analysis with Hillis's degrees of freedom.

A draw is a reader, an arm a modality, a patient a case. One formula serves every contrast c: the variance with the draws held fixed, from
influence values over patients, plus what the draws add. For matched arms the contrast of each draw is one number, so a difference is
analysed as one arm is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.influence import products


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoWay:
    """A mean over draws with its three variances: new patients, new draws, both."""

    value: float
    draws: int
    #: Mean square over draws; None with one draw.
    ms: float | None
    #: Mean variance over patients of one draw's value, and mean covariance of two draws' values.
    var_case: float
    cov_case: float | None
    #: These draws, new patients.
    variance_patients: float
    #: New draws, these patients; t with `draws - 1`, or as `df_draws` says for two arms that are not matched.
    variance_draws: float | None
    df_draws: float
    #: New draws and new patients.
    variance_both: float | None
    df_both: float


def crossed(values: np.ndarray, influence: np.ndarray) -> TwoWay:
    """Analyse one arm, or a difference of matched arms: `values` (draws,) and `influence` (draws, clusters).

    Obuchowski & Rockette (1995), Hillis (2007): `Var = MS/D + max(Cov2, 0)`, `df = Var^2 / ((MS/D)^2 / (D - 1))`. Where chance makes that
    smaller than the variance with the draws held fixed, that one stands: a wider question never has the narrower answer.
    """
    draws = len(values)
    covariance = products(influence, influence)
    mean = influence.mean(axis=0)
    fixed, var = float(products(mean[None], mean[None])[0, 0]), float(np.trace(covariance)) / draws
    value = float(values.mean())
    if draws == 1:
        return _single(value, var, fixed)
    ms = float(values.var(ddof=1))
    cov = float(covariance.sum() - np.trace(covariance)) / (draws * (draws - 1))
    both = ms / draws + max(cov, 0.0)
    return TwoWay(
        value=value,
        draws=draws,
        ms=ms,
        var_case=var,
        cov_case=cov,
        variance_patients=fixed,
        variance_draws=ms / draws,
        df_draws=draws - 1,
        variance_both=max(both, fixed),
        df_both=_satterthwaite(both, [(ms / draws, draws - 1)]),
    )


def nested(a: np.ndarray, influence_a: np.ndarray, b: np.ndarray, influence_b: np.ndarray) -> TwoWay:
    """Analyse the difference of two arms whose draws are not matched, each with draws of its own, on the same patients.

    `a` is (draws of a,), `influence_a` (draws of a, clusters), and so for b. Readers nested in modalities (Hillis 2007), with each arm's
    own mean square and Satterthwaite's degrees of freedom, so that arms whose draws spread differently need no pooling; with equal mean
    squares and equal numbers of draws this is Hillis's pooled form.
    """
    arms = (crossed(a, influence_a), crossed(b, influence_b))
    value = arms[0].value - arms[1].value
    mean = influence_a.mean(axis=0) - influence_b.mean(axis=0)
    fixed = float(products(mean[None], mean[None])[0, 0])
    parts = [(one.ms / one.draws, one.draws - 1) for one in arms if one.ms is not None]
    if len(parts) < 2:
        return _single(value, arms[0].var_case + arms[1].var_case, fixed, draws=min(len(a), len(b)))
    across = float(products(influence_a, influence_b).mean())
    shared = sum(one.cov_case or 0.0 for one in arms) - 2 * across
    from_draws = sum(part for part, _ in parts)
    both = from_draws + max(shared, 0.0)
    return TwoWay(
        value=value,
        draws=min(len(a), len(b)),
        ms=None,
        var_case=arms[0].var_case + arms[1].var_case,
        cov_case=shared,
        variance_patients=fixed,
        variance_draws=from_draws,
        df_draws=_satterthwaite(from_draws, parts),
        variance_both=max(both, fixed),
        df_both=_satterthwaite(both, parts),
    )


def _satterthwaite(total: float, parts: list[tuple[float, int]]) -> float:
    spread = sum(part**2 / df for part, df in parts)
    return total**2 / spread if spread > 0 else math.inf


def _single(value: float, var: float, fixed: float, *, draws: int = 1) -> TwoWay:
    return TwoWay(
        value=value,
        draws=draws,
        ms=None,
        var_case=var,
        cov_case=None,
        variance_patients=fixed,
        variance_draws=None,
        df_draws=math.inf,
        variance_both=None,
        df_both=math.inf,
    )
