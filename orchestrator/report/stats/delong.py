"""Areas under correlated ROC curves compared on the same cases, without resampling: independent cases, and cases in clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from orchestrator.report.stats import intervals
from orchestrator.report.stats.influence import cluster_sums, clusters_with, delong_covariance, obuchowski_covariance
from orchestrator.report.stats.ranking import Placements, placements


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A linear contrast of areas with its standard error. `z` and `p` are None where the contrast has no variance."""

    areas: tuple[float, ...]
    value: float
    se: float
    z: float | None
    p: float | None

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """Return the contrast plus and minus the normal quantile times its standard error; None without variance."""
        return intervals.raw(self.value, self.se, math.inf, confidence) if self.se > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointTest:
    """The hypothesis that several contrasts are all zero: a chi-square statistic with `df` degrees of freedom."""

    statistic: float
    df: int
    p: float


def delong_interval(truth: np.ndarray, score: np.ndarray, confidence: float) -> tuple[float, float, float] | None:
    """Return an area and its interval by DeLong et al. (1988), symmetric and kept within [0, 1] as R's pROC does.

    None where the variance is zero, as at an area of 0 or 1: `intervals.newcombe` has a width there. Raises ValueError when a class has
    fewer than two cases.
    """
    areas, covariance = delong_covariance(truth, score[None])
    area, se = float(areas[0]), math.sqrt(max(float(covariance[0, 0]), 0.0))
    if se == 0.0:
        return None
    low, high = intervals.raw(area, se, math.inf, confidence)
    return area, max(low, 0.0), min(high, 1.0)


def delong_test(truth: np.ndarray, scores: np.ndarray, contrast: Sequence[float] = (1.0, -1.0)) -> Comparison:
    """Test a contrast of the areas of any number of models on the same independent cases (DeLong et al. 1988).

    `truth` (cases,) is 0/1, `scores` is (models, cases), `contrast` (models,). Raises ValueError when a class has fewer than two cases or
    the contrast does not have a number for each model.
    """
    placed, weights = _placed(truth, scores, contrast)
    if min(len(placed[0].positive), len(placed[0].negative)) < 2:
        raise ValueError("DeLong's variance needs two positives and two negatives")
    # The contrast of each case first: two models that rank alike then have a variance of exactly 0.
    positive = weights @ np.stack([one.positive for one in placed])
    negative = weights @ np.stack([one.negative for one in placed])
    return _comparison(placed, weights, float(positive.var(ddof=1) / len(positive) + negative.var(ddof=1) / len(negative)))


def obuchowski_test(truth: np.ndarray, scores: np.ndarray, cluster: np.ndarray, contrast: Sequence[float] = (1.0, -1.0)) -> Comparison:
    """Test a contrast of areas on cases in clusters, such as images of patients (Obuchowski 1997).

    `cluster` (cases,) holds codes from 0; the rest is as in `delong_test`. Raises ValueError when a class is in fewer than two clusters.
    """
    placed, weights = _placed(truth, scores, contrast)
    i10, i01 = clusters_with(truth, cluster)
    if min(i10, i01) < 2:
        raise ValueError("Obuchowski's variance needs two clusters with positives and two with negatives")
    sums = [cluster_sums(one, truth, cluster, int(cluster.max()) + 1) for one in placed]
    positive, negative = (weights @ np.stack([one[side] for one in sums]) for side in (0, 1))
    m, n, i = len(placed[0].positive), len(placed[0].negative), len(np.unique(cluster))
    variance = (
        i10 / (i10 - 1) * float((positive**2).sum()) / m**2
        + i01 / (i01 - 1) * float((negative**2).sum()) / n**2
        + 2 * i / (i - 1) * float((positive * negative).sum()) / (m * n)
    )
    return _comparison(placed, weights, variance)


def joint_test(
    truth: np.ndarray, scores: np.ndarray, contrasts: np.ndarray | None = None, cluster: np.ndarray | None = None
) -> JointTest | None:
    """Test that several contrasts of areas are all zero: `A L' (L S L')^-1 L A`, chi-square (DeLong et al. 1988, equation 5).

    `contrasts` is (contrasts, models); without it all models are compared, each with the first. With `cluster` S is Obuchowski's, else
    DeLong's. Contrasts that follow from others are counted once. None when no contrast has a variance.
    """
    models = len(scores)
    rows = np.hstack([-np.ones((models - 1, 1)), np.eye(models - 1)]) if contrasts is None else np.atleast_2d(contrasts)
    areas, covariance = delong_covariance(truth, scores) if cluster is None else obuchowski_covariance(truth, scores, cluster)
    spread = rows @ covariance @ rows.T
    df = int(np.linalg.matrix_rank(spread, hermitian=True)) if np.any(np.diag(spread) > 1e-18) else 0
    if df == 0:
        return None
    moved = rows @ areas
    statistic = float(moved @ np.linalg.pinv(spread, hermitian=True) @ moved)
    return JointTest(statistic=statistic, df=df, p=float(special.chdtrc(df, statistic)))


def _placed(truth: np.ndarray, scores: np.ndarray, contrast: Sequence[float]) -> tuple[list[Placements], np.ndarray]:
    if len(contrast) != len(scores):
        raise ValueError(f"a contrast of {len(contrast)} numbers for {len(scores)} models")
    placed = [placements(truth, score) for score in scores]
    found = [one for one in placed if one is not None]
    if len(found) < len(placed):
        raise ValueError("an area needs a positive and a negative")
    return found, np.asarray(contrast, np.float64)


def _comparison(placed: Sequence[Placements], weights: np.ndarray, variance: float) -> Comparison:
    areas = tuple(one.auroc for one in placed)
    value = math.fsum(weight * area for weight, area in zip(weights.tolist(), areas, strict=True))
    se = math.sqrt(max(variance, 0.0))
    if se == 0.0:
        return Comparison(areas=areas, value=value, se=0.0, z=None, p=None)
    return Comparison(areas=areas, value=value, se=se, z=value / se, p=intervals.p_two_sided(value, se, math.inf))
