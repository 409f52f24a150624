"""Calibration and curves of a test set, by cell and finding, averaged over runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from orchestrator.report.board import Board
from orchestrator.report.cells import Planned
from orchestrator.report.diagnostics.values import Calibration, Curve, ReliabilityBin
from orchestrator.report.predictions import Predictions
from orchestrator.report.stats import calibration, intervals, rates
from orchestrator.report.stats.calibration import BINS, Bins
from orchestrator.report.stats.estimate import Status
from orchestrator.report.stats.inference import NO_SPREAD
from orchestrator.report.stats.influence import products
from orchestrator.report.stats.operating import proportion
from orchestrator.report.stats.ratios import cluster_sums
from orchestrator.report.values import TestSet


def calibrations(planned: Sequence[Planned], test_set: TestSet, board: Board, confidence: float) -> Iterator[Calibration]:
    """Yield the calibration of every cell and finding with a known truth."""
    for one in planned:
        frames = [run.frame for run in one.present(board) if isinstance(run.frame, Predictions)]
        for column, label in enumerate(board.frame.labels if frames else ()):
            known = board.frame.truth[:, column] >= 0
            probabilities = [frame.probability(frame.score[known, column]) for frame in frames]
            truth, cluster = board.frame.truth[known, column].astype(np.float64), board.cluster[known]
            found = _Case(probabilities, truth, cluster, board.clusters, confidence)
            yield found.described(one, label, test_set, frames[0].is_probability, missing=len(frames) < len(one.runs))


def curves(planned: Sequence[Planned], test_set: TestSet, board: Board) -> Iterator[Curve]:
    """Yield the mean ROC and precision-recall curve of every cell and finding that has both classes."""
    for one in planned:
        frames = [run.frame for run in one.present(board) if isinstance(run.frame, Predictions)]
        for column, label in enumerate(board.frame.labels if frames else ()):
            known = board.frame.truth[:, column] >= 0
            truth = board.frame.truth[known, column]
            if not 0 < int(truth.sum()) < len(truth):
                continue
            counted = [rates.counts(truth, frame.score[known, column]) for frame in frames]
            for kind, make in (("roc", rates.roc), ("pr", rates.precision_recall)):
                made = [curve for found in counted if (curve := make(found)) is not None]
                mean = tuple(float(value) for value in np.mean(made, axis=0))
                yield Curve(test_set=test_set.key, arm=one.arm, size=one.size, label=label, kind=kind, n_runs=len(made), y=mean)


class _Case:
    """The probabilities of some runs for the same cases."""

    def __init__(
        self, probabilities: Sequence[np.ndarray], truth: np.ndarray, cluster: np.ndarray, clusters: int, confidence: float
    ) -> None:
        self.probabilities, self.truth, self.cluster, self.clusters = probabilities, truth, cluster, clusters
        self.confidence = confidence
        self.several = len(np.unique(cluster)) > 1

    def described(self, planned: Planned, label: str, test_set: TestSet, is_probability: bool, *, missing: bool) -> Calibration:
        wide = [calibration.equal_width(one, self.truth) for one in self.probabilities]
        heavy = [calibration.equal_mass(one, self.truth) for one in self.probabilities]
        parts = [calibration.brier(one, self.truth, bins) for one, bins in zip(self.probabilities, heavy, strict=True)]
        brier = float(np.mean([part.value for part in parts]))
        ends = {"width": self._ece_ends(wide), "mass": self._ece_ends(heavy)}
        low, high = self._brier_ends(brier)
        less = [value for one in heavy if (value := calibration.debiased(one)) is not None]
        return Calibration(
            test_set=test_set.key,
            arm=planned.arm,
            size=planned.size,
            label=label,
            n=len(self.truth),
            prevalence=float(self.truth.mean()),
            probabilities="scores" if is_probability else "sigmoid",
            n_runs=len(self.probabilities),
            estimand=f"these_models_new_{test_set.cluster}",
            brier=brier,
            brier_low=low,
            brier_high=high,
            reliability=float(np.mean([part.reliability for part in parts])),
            resolution=float(np.mean([part.resolution for part in parts])),
            uncertainty=float(np.mean([part.uncertainty for part in parts])),
            within=float(np.mean([part.within for part in parts])),
            bins=BINS,
            ece_equal_width=float(np.mean([calibration.ece(one) for one in wide])),
            ece_equal_width_low=ends["width"][0],
            ece_equal_width_high=ends["width"][1],
            ece_equal_mass=float(np.mean([calibration.ece(one) for one in heavy])),
            ece_equal_mass_low=ends["mass"][0],
            ece_equal_mass_high=ends["mass"][1],
            debiased=float(np.mean(less)) if less else None,
            reliability_bins=tuple(self._reliability()),
            status=tuple(
                str(word) for word in (*([Status.MISSING_RUNS] if missing else []), *([] if self.several else [Status.NOT_ESTIMABLE]))
            ),
        )

    def _se(self, deviations: Sequence[np.ndarray]) -> float | None:
        """Return the standard error of a mean over cases, averaged over runs, from how far each case of each run is from it."""
        if not self.several:
            return None
        present = len(np.unique(self.cluster))
        mean = cluster_sums(np.mean(deviations, axis=0), self.cluster, self.clusters) / len(self.truth)
        return math.sqrt(present / (present - 1) * float(products(mean[None], mean[None])[0, 0]))

    def _brier_ends(self, brier: float) -> tuple[float | None, float | None]:
        errors = [(one - self.truth) ** 2 for one in self.probabilities]
        se = self._se([one - one.mean() for one in errors])
        if se is None or se <= NO_SPREAD or not 0 < brier < 1:
            return None, None
        return intervals.on_logit(brier, se, math.inf, self.confidence)

    def _ece_ends(self, found: Sequence[Bins]) -> tuple[float | None, float | None]:
        """Return the interval of an error whose bins and the sides on which they err are taken as they are."""
        deviations: list[np.ndarray] = []
        for probability, bins in zip(self.probabilities, found, strict=True):
            error = np.sign(bins.probability - bins.frequency)[bins.place] * (probability - self.truth)
            deviations.append(error - error.mean())
        se, value = self._se(deviations), float(np.mean([calibration.ece(one) for one in found]))
        if se is None or se <= NO_SPREAD:
            return None, None
        low, high = intervals.raw(value, se, math.inf, self.confidence)
        return max(low, 0.0), min(high, 1.0)

    def _reliability(self) -> Iterator[ReliabilityBin]:
        place = np.stack([np.minimum((one * BINS).astype(np.int64), BINS - 1) for one in self.probabilities])
        for index in range(BINS):
            inside = (place == index).mean(axis=0)
            if not inside.any():
                continue
            found = proportion([(inside * self.truth, inside)], self.cluster, self.clusters, self.confidence)
            weight = (place == index) * np.stack(list(self.probabilities))
            if found is not None:
                yield ReliabilityBin(
                    low=index / BINS,
                    high=(index + 1) / BINS,
                    count=found.n,
                    probability=float(weight.mean(axis=0).sum() / inside.sum()),
                    frequency=found.value,
                    frequency_low=found.low,
                    frequency_high=found.high,
                )
