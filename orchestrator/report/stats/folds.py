"""Held-out folds: scores of different folds come from different models, so cases are compared within a fold only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from orchestrator.report.stats.ranking import auroc
from orchestrator.report.stats.streams import permutations

#: Beyond this many label assignments they are sampled instead of listed.
EXACT_UP_TO = 100_000
SAMPLED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The scores of one label in every held-out case of every fold, as parallel arrays."""

    fold: np.ndarray
    patient: np.ndarray
    truth: np.ndarray
    score: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What an area would be if labels had nothing to do with scores: its central range over label assignments to patients."""

    low: float
    high: float
    p: float
    assignments: int
    exact: bool
    positives: int
    negatives: int


def within_folds(held: Held) -> tuple[float, int] | None:
    """Return the mean over folds of the area within the fold, and how many folds have one; None when no fold has both classes.

    With one positive and one negative patient a fold this is the leave-pair-out area (Airola et al. 2011): the share of pairs in which the
    positive scores higher, ties counting half. A fold in which a patient has several images counts once, its image pairs averaged.
    """
    areas = [area for fold in np.unique(held.fold) if (area := _area(held, held.fold == fold)) is not None]
    return (math.fsum(areas) / len(areas), len(areas)) if areas else None


def _area(held: Held, rows: np.ndarray) -> float | None:
    return auroc(held.truth[rows], held.score[rows])


def chance(held: Held, observed: float, confidence: float, seed: int = 0) -> Chance | None:
    """Return the range of the area under permutation of labels over patients, and how often it lies as far from a half as `observed`.

    Models of permuted labels were never trained, so patients are ranked by their mean held-out score, and every assignment of as many
    positive labels to patients is listed (sampled, by counter, when there are more than `EXACT_UP_TO`). None when a patient has both
    classes or a class is absent.
    """
    names = np.unique(held.patient)
    rows = [held.patient == name for name in names]
    if any(len(np.unique(held.truth[mask])) > 1 for mask in rows):
        return None
    truth = np.array([held.truth[mask][0] for mask in rows])
    mean = np.array([held.score[mask].astype(np.float64).mean() for mask in rows])
    total, positives = len(names), int((truth == 1).sum())
    if not 0 < positives < total:
        return None
    exact = math.comb(total, positives) <= EXACT_UP_TO
    if exact:
        chosen = np.array(list(combinations(range(total), positives)))
    else:
        chosen = permutations(total, seed, np.arange(SAMPLED))[:, :positives]
    areas = _areas(mean, chosen)
    low, high = np.quantile(areas, [0.5 - confidence / 2, 0.5 + confidence / 2])
    extreme = int((np.abs(areas - 0.5) >= abs(observed - 0.5) - 1e-12).sum())
    p = extreme / len(areas) if exact else (extreme + 1) / (len(areas) + 1)
    return Chance(
        low=float(low),
        high=float(high),
        p=float(p),
        assignments=len(areas),
        exact=exact,
        positives=positives,
        negatives=total - positives,
    )


def _areas(score: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the area for each choice of positives (assignments, positives), from midranks (Mann & Whitney 1947)."""
    ordered = np.sort(score)
    midrank = (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right") + 1) / 2
    m = chosen.shape[1]
    return (midrank[chosen].sum(axis=1) - m * (m + 1) / 2) / (m * (len(score) - m))
