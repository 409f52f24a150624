"""Operating points, calibration and curves: means over the runs of a cell, with intervals for these models and new patients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A proportion at an operating point: sensitivity, specificity, ppv or npv; accuracy or f1 at a threshold for F1."""

    name: str
    estimate: float | None
    low: float | None
    high: float | None
    #: Cases that it is a proportion of, mean over runs, and how many independent ones they are worth.
    n: float
    n_effective: float
    #: Runs in which it exists: without a positive call there is no predictive value.
    n_runs: int
    status: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """One finding of one cell at the thresholds that one rule gave, each run at its own."""

    test_set: str
    arm: str
    size: str
    label: str
    #: youden, sensitivity_90, specificity_90, f1; `f1_on_test`, as published; `mask` where a structure counts as found when anything was
    #: drawn. Of both rules for F1 a label `macro` is the mean over findings.
    rule: str
    #: What thresholds were chosen on: `validation`, `test` (as published), or `none`.
    source: str
    #: Mean, smallest and largest over runs, in the unit of the scores; None without a threshold.
    threshold: float | None
    threshold_low: float | None
    threshold_high: float | None
    #: What thresholds rest on, mean over runs; None where nobody says.
    n_validation_positive: float | None
    n_validation_negative: float | None
    n_runs: int
    estimand: str
    method: str
    shares: tuple[Share, ...]
    status: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """One bin of a reliability diagram, of equal width, over all runs of a cell."""

    low: float
    high: float
    #: Cases, mean over runs.
    count: float
    probability: float
    frequency: float
    frequency_low: float | None
    frequency_high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far the probabilities of one finding are from frequencies, in one cell."""

    test_set: str
    arm: str
    size: str
    label: str
    n: int
    prevalence: float
    #: Where probabilities are from: `sigmoid` of logits, or `scores` as they are.
    probabilities: str
    n_runs: int
    estimand: str
    brier: float
    brier_low: float | None
    brier_high: float | None
    #: Brier = reliability - resolution + uncertainty + within, over bins of equal mass.
    reliability: float
    resolution: float
    uncertainty: float
    within: float
    bins: int
    ece_equal_width: float
    ece_equal_width_low: float | None
    ece_equal_width_high: float | None
    ece_equal_mass: float
    ece_equal_mass_low: float | None
    ece_equal_mass_high: float | None
    #: Root of the squared error over bins of equal mass, less what chance adds.
    debiased: float | None
    reliability_bins: tuple[ReliabilityBin, ...]
    status: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The mean curve of one finding in one cell: `roc` by false positive rate, `pr` (precision) by recall."""

    test_set: str
    arm: str
    size: str
    label: str
    kind: str
    n_runs: int
    #: At each place of `Diagnostics.grid`.
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """All of it."""

    operating_points: tuple[OperatingPoint, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    curves: tuple[Curve, ...] = ()
    #: Where curves have a point: false positive rates of `roc`, recalls of `pr`.
    grid: tuple[float, ...] = ()
    #: What is not there, and why.
    notes: tuple[str, ...] = ()
