"""Average precision: the area under the precision-recall steps, what each cluster adds to its error, and Boyd's interval.

Chance is the prevalence, not a half. There is no interpolation: between two thresholds precision is that of the lower one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from orchestrator.report.stats.influence import clusters_with
from orchestrator.report.stats.intervals import quantile
from orchestrator.report.stats.ranking import Ranked, sorted_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """An average precision and what each cluster adds to its error."""

    value: float
    #: Shape (clusters,); the sum of squares is the variance of `value`.
    values: np.ndarray


def average_precision(truth: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None, ranked: Ranked | None = None) -> float | None:
    """Return `sum_k (R_k - R_{k-1}) P_k` over the distinct scores, descending; None when positives have no weight.

    `truth` is 0/1, `score` and `weight` have the same shape (cases,); equal scores are one threshold. Without negatives it is 1, the
    prevalence. Raises ValueError for a weight that is negative or not finite.
    """
    own, reached, every = _thresholds(ranked or Ranked.of(truth, score), weight)
    total = own.sum()
    if not total > 0:
        return None
    weighed = every > 0
    return float((own[weighed] * (reached[weighed] / every[weighed])).sum() / total)


def _thresholds(ranked: Ranked, weight: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each distinct score, ascending, the weight of positives at it, of positives from it up, and of all cases from it up."""
    weights = sorted_weights(ranked, weight)
    positive = np.where(ranked.positive, weights, np.zeros(1, weights.dtype))
    starts = ranked.starts[:-1]
    own = np.add.reduceat(positive, starts) if len(starts) else positive
    reached, every = (np.cumsum(values[::-1])[::-1][starts] for values in (positive, weights))
    return own, reached, every


def precision_influence(
    truth: np.ndarray, score: np.ndarray, cluster: np.ndarray, clusters: int, ranked: Ranked | None = None
) -> Precision | None:
    """Compute an average precision and its influence values by cluster; None when a class is in fewer than two clusters.

    The value of a case is the derivative of the weighted average precision by its weight at weight one (the infinitesimal jackknife, Efron
    1982). With `p_g` positives at the distinct score g, and TP, FP counts at and above it, raising the weight of a positive at score h adds
    `(P_h - AP)/m + sum_{g <= h} p_g FP_g / (m (TP_g + FP_g)^2)`, that of a negative `-sum_{g <= h} p_g TP_g / (m (TP_g + FP_g)^2)`. Values
    are summed within clusters and scaled by `sqrt(G/(G-1))` over the G clusters with a case.
    """
    ranked = ranked or Ranked.of(truth, score)
    value = average_precision(truth, score, ranked=ranked)
    if value is None or min(clusters_with(truth, cluster)) < 2:
        return None
    m = ranked.positives
    own, reached, every = (values.astype(np.float64) for values in _thresholds(ranked, None))
    gained = (reached / every - value) / m + np.cumsum(own * (every - reached) / every**2) / m
    lost = -np.cumsum(own * reached / every**2) / m
    of_case = np.where(truth == 1, ranked.of_cases(gained), ranked.of_cases(lost))
    present = int(np.count_nonzero(np.bincount(cluster)))
    return Precision(value=value, values=math.sqrt(present / (present - 1)) * np.bincount(cluster, of_case, minlength=clusters))


def boyd(value: float, positives: int, confidence: float) -> tuple[float, float]:
    """Return the logit interval of an average precision, `expit(logit(AP) +- z / sqrt(m AP (1 - AP)))` (Boyd, Eng & Page 2013).

    It knows only the number of positives, which are taken as independent: for patients with several images use influence values. Raises
    ValueError at 0 and 1, where it has no width.
    """
    if not 0.0 < value < 1.0 or positives < 1:
        raise ValueError(f"an average precision of {value} over {positives} positives has no logit interval; resample instead")
    half = quantile(confidence, math.inf) / math.sqrt(positives * value * (1 - value))
    centre = math.log(value / (1 - value))
    return float(special.expit(centre - half)), float(special.expit(centre + half))
