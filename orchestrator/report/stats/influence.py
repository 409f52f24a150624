"""Variance without resampling: how much each cluster of cases moves an area under the ROC curve.

The values returned here are scaled so that the covariance of two areas, of the same label or not, of the same model or not, is the dot
product of their influence values over clusters. Linear combinations (a macro average, a mean over draws, a difference) have the same
combination as influence values, so one matrix answers every question.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.ranking import Placements, placements


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """One area under the ROC curve and what each cluster adds to its error."""

    auroc: float
    #: Shape (clusters,); the sum of squares is the variance of `auroc`.
    values: np.ndarray


def influence(
    truth: np.ndarray, score: np.ndarray, cluster: np.ndarray, clusters: int, placed: Placements | None = None
) -> Influence | None:
    """Compute an area and its influence values by cluster; None when a class is in fewer than two clusters.

    `placed` are the placement values of these scores where they are known.

    With `P_g` and `N_g` the sums over cluster g of the centred placement values of its positives and negatives (Obuchowski 1997), the value
    of g is `sqrt(I10/(I10-1)) P_g/m + sqrt(I01/(I01-1)) N_g/n`. With one case a cluster this is the variance of DeLong et al. (1988)
    exactly; with clusters it is Obuchowski's, but for the factor of the cross term, `I/(I-1)` there and the geometric mean of the other
    two factors here, so that covariances of any set of areas are those of one positive semidefinite matrix.
    """
    placed = placed or placements(truth, score)
    if placed is None:
        return None
    i10, i01 = clusters_with(truth, cluster)
    if i10 < 2 or i01 < 2:
        return None
    positive, negative = cluster_sums(placed, truth, cluster, clusters)
    m, n = len(placed.positive), len(placed.negative)
    values = np.sqrt(i10 / (i10 - 1)) / m * positive + np.sqrt(i01 / (i01 - 1)) / n * negative
    return Influence(auroc=placed.auroc, values=values)


def clusters_with(truth: np.ndarray, cluster: np.ndarray) -> tuple[int, int]:
    """Return how many clusters have a positive, and how many a negative."""
    positive, negative = (int(np.count_nonzero(np.bincount(cluster[truth == value]))) for value in (1, 0))
    return positive, negative


def cluster_sums(placed: Placements, truth: np.ndarray, cluster: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Obuchowski's `P_g` and `N_g`: sums over each cluster of centred placement values, each of shape (clusters,)."""
    positive = np.bincount(cluster[truth == 1], placed.positive - placed.auroc, minlength=clusters)
    negative = np.bincount(cluster[truth == 0], placed.negative - placed.auroc, minlength=clusters)
    return positive, negative


def delong_covariance(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the areas (models,) of `scores` (models, cases) and their covariance (models, models); cases are independent.

    Raises ValueError when a class has fewer than two cases.
    """
    if min((truth == 1).sum(), (truth == 0).sum()) < 2:
        raise ValueError("DeLong's covariance needs two positives and two negatives")
    placed = [_placed(truth, score) for score in scores]
    m, n = len(placed[0].positive), len(placed[0].negative)
    s10 = np.atleast_2d(np.cov(np.stack([one.positive for one in placed])))
    s01 = np.atleast_2d(np.cov(np.stack([one.negative for one in placed])))
    return np.array([one.auroc for one in placed]), s10 / m + s01 / n


def obuchowski_covariance(truth: np.ndarray, scores: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return areas and their covariance for clustered cases, as Obuchowski (1997) has it, factors included.

    `scores` is (models, cases) and `cluster` (cases,) holds codes from 0. Raises ValueError when a class is in fewer than two clusters.
    """
    i10, i01 = clusters_with(truth, cluster)
    if min(i10, i01) < 2:
        raise ValueError("Obuchowski's covariance needs two clusters with positives and two with negatives")
    clusters = int(cluster.max()) + 1
    placed = [_placed(truth, score) for score in scores]
    sums = [cluster_sums(one, truth, cluster, clusters) for one in placed]
    positive, negative = np.stack([one[0] for one in sums]), np.stack([one[1] for one in sums])
    m, n, i = len(placed[0].positive), len(placed[0].negative), len(np.unique(cluster))
    s10 = i10 / (i10 - 1) * products(positive, positive) / m**2
    s01 = i01 / (i01 - 1) * products(negative, negative) / n**2
    s11 = i / (i - 1) * products(positive, negative) / (m * n)
    return np.array([one.auroc for one in placed]), s10 + s01 + s11 + s11.T


def products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return `left @ right.T` (a, clusters) x (b, clusters), summed in a fixed order whatever the number of threads."""
    return np.einsum("ag,bg->ab", left, right, optimize=False)


def _placed(truth: np.ndarray, score: np.ndarray) -> Placements:
    placed = placements(truth, score)
    if placed is None:
        raise ValueError("an area needs a positive and a negative")
    return placed
