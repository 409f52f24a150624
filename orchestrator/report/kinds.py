"""Kinds of measure: what each makes of one run, in one form, so that every cell and difference is answered the same way.

A measure of a run is a value, what each cluster adds to its error, and the value in every bootstrap resample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.report.frames import Frame
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats.bootstrap import Counts, auroc_replicates, precision_replicates
from orchestrator.report.stats.influence import influence
from orchestrator.report.stats.medians import median
from orchestrator.report.stats.precision import average_precision, precision_influence
from orchestrator.report.stats.ranking import Ranked, placements
from orchestrator.report.stats.ratios import cluster_sums, ratio
from orchestrator.report.stats.scales import AREA, Scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measure of one run: its value, influence values (clusters,) and bootstrap replicates (replicates,)."""

    value: float
    #: The sum of squares is the variance of `value`; None where there is none (a class in fewer than two clusters).
    influence: np.ndarray | None
    replicates: np.ndarray
    #: Whether every case has the same score, for this finding or one of those averaged.
    constant: bool = False
    #: Whether the value is at an end of its scale, where a standard error means nothing.
    at_end: bool = False
    #: Images whose structure was not found, and which count the diagonal of the image instead of a distance.
    penalised: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of measure."""

    name: str
    title: str
    #: What one run scored in one column of its frame; None where that cannot be said.
    of: Callable[[Any, int, np.ndarray, Counts], Measured | None]
    frame: type[Frame] = Predictions
    scale: Scale = AREA
    higher_is_better: bool = True
    #: What no discrimination gives, where that is one number.
    reference: float | None = None
    #: A column needs cases of both classes, of class 1, or no more than cases.
    needs: Literal["both", "positives", "cases"] = "cases"
    #: Says what is wrong with a frame, or nothing.
    fault: Callable[[Any], str] | None = None
    #: The kind that is shown by finding: this one, or another where all findings make one number.
    by_finding: str = ""

    @property
    def pooled(self) -> bool:
        """Tell whether all findings make one number."""
        return bool(self.by_finding)


def _auroc(frame: Predictions, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    truth, score, unit = _known(frame, column, cluster)
    # One sort serves the area, its variance and its resamples.
    ranked = Ranked.of(truth, score)
    placed = placements(truth, score, ranked)
    if placed is None:
        return None
    moved = influence(truth, score, unit, counts.units, placed)
    return Measured(
        value=placed.auroc,
        influence=None if moved is None else moved.values,
        replicates=auroc_replicates(truth, score, unit, counts, ranked),
        constant=bool(score.min() == score.max()),
    )


def _ap(frame: Predictions, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    truth, score, unit = _known(frame, column, cluster)
    ranked = Ranked.of(truth, score)
    value = average_precision(truth, score, ranked=ranked)
    if value is None:
        return None
    moved = precision_influence(truth, score, unit, counts.units, ranked)
    return Measured(
        value=value,
        influence=None if moved is None else moved.values,
        replicates=precision_replicates(truth, score, unit, counts, ranked),
        constant=bool(score.min() == score.max()),
    )


def _brier(frame: Predictions, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    truth, score, unit = _known(frame, column, cluster)
    errors = (frame.probability(score) - truth) ** 2
    return _ratio(errors, np.ones(len(errors)), unit, counts)


def _accuracy(frame: Predictions, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    """Score the most likely finding of each unit; the first of equals counts."""
    del column
    right = np.take_along_axis(frame.truth, frame.score.argmax(axis=1)[:, None], axis=1)[:, 0]
    return _ratio(right.astype(np.float64), np.ones(len(right)), cluster, counts)


def _one_class(frame: Predictions) -> str:
    """Say which unit has not exactly one true class."""
    true = (frame.truth == 1).sum(axis=1)
    bad = np.flatnonzero((true != 1) | (frame.truth < 0).any(axis=1))
    if len(frame.labels) < 2 or len(bad):
        what = f"unit '{frame.units[bad[0]]}' has {true[bad[0]]} of {len(frame.labels)}" if len(bad) else "there is one finding"
        return f"each unit needs one true class and a truth of every class, and {what}"
    return ""


def _dice(frame: Masks, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    found = frame.truth[:, column] == 1
    return _mean_of_clusters(_overlap(frame, column)[found], cluster[found], counts)


def _dice_empty_is_one(frame: Masks, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    scored = frame.truth[:, column] >= 0
    return _mean_of_clusters(_overlap(frame, column)[scored], cluster[scored], counts)


def _dice_pooled(frame: Masks, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    both, size = 2.0 * frame.intersection[:, column], (frame.predicted + frame.true)[:, column].astype(np.float64)
    return _ratio(both, size, cluster, counts)


def _hd95(frame: Masks, column: int, cluster: np.ndarray, counts: Counts) -> Measured | None:
    if frame.hd95 is None or frame.diagonal is None:
        return None
    found = frame.truth[:, column] == 1
    missed = found & (frame.predicted[:, column] == 0)
    distance = np.where(missed, frame.diagonal, frame.hd95[:, column])
    answer = median(_means(distance[found], cluster[found], counts.units), counts)
    if answer is None:
        return None
    return Measured(
        value=answer.value,
        influence=answer.spread if answer.clusters >= 2 else None,
        replicates=answer.replicates,
        penalised=int(missed.sum()),
    )


def _known(frame: Predictions, column: int, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = frame.truth[:, column] >= 0
    return frame.truth[known, column], frame.score[known, column], cluster[known]


def _overlap(frame: Masks, column: int) -> np.ndarray:
    """Return the Dice coefficient of each image, 1 where both masks are empty."""
    both, size = frame.intersection[:, column], (frame.predicted + frame.true)[:, column]
    return np.where(size > 0, 2.0 * both / np.maximum(size, 1), 1.0)


def _means(values: np.ndarray, cluster: np.ndarray, clusters: int) -> np.ndarray:
    """Return the mean of each cluster, NaN where it has no value."""
    sums, counts = cluster_sums(values, cluster, clusters), np.bincount(cluster, minlength=clusters)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean_of_clusters(values: np.ndarray, cluster: np.ndarray, counts: Counts) -> Measured | None:
    """Average within clusters, then over clusters: a patient with many images counts once."""
    means = _means(values, cluster, counts.units)
    present = np.isfinite(means)
    return _measured(np.where(present, means, 0.0), present.astype(np.float64), counts)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, cluster: np.ndarray, counts: Counts) -> Measured | None:
    return _measured(cluster_sums(numerator, cluster, counts.units), cluster_sums(denominator, cluster, counts.units), counts)


def _measured(numerator: np.ndarray, denominator: np.ndarray, counts: Counts) -> Measured | None:
    found = ratio(numerator, denominator, counts)
    return None if found is None else Measured(value=found.value, influence=found.influence, replicates=found.replicates)


_OVERLAP = Scale(few_clusters=True)

KINDS: Mapping[str, Kind] = {
    one.name: one
    for one in (
        Kind(name="auroc", title="AUROC", of=_auroc, needs="both", reference=0.5),
        Kind(name="ap", title="average precision", of=_ap, scale=Scale(resampled=True), needs="both"),
        Kind(name="accuracy", title="accuracy", of=_accuracy, fault=_one_class, scale=Scale(edge="wilson"), by_finding="auroc"),
        Kind(name="brier", title="Brier score", of=_brier, scale=Scale(), higher_is_better=False),
        Kind(name="dice", title="Dice", of=_dice, frame=Masks, scale=_OVERLAP, needs="positives"),
        Kind(name="dice_as_published", title="Dice, empty masks count 1", of=_dice_empty_is_one, frame=Masks, scale=_OVERLAP),
        Kind(name="dice_pooled", title="pooled Dice", of=_dice_pooled, frame=Masks, scale=_OVERLAP, needs="positives"),
        Kind(
            name="hd95",
            title="HD95",
            of=_hd95,
            frame=Masks,
            scale=Scale(high=None, logit=False, resampled=True, few_clusters=True),
            higher_is_better=False,
            needs="positives",
        ),
    )
}
