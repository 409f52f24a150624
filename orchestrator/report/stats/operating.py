"""Operating points: thresholds that validation gives, and what becomes of a test set at one of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.influence import products
from orchestrator.report.stats.proportions import wilson
from orchestrator.report.stats.ratios import cluster_sums

#: Share -> the rules that reach it on validation.
TARGET = 0.9
RULES = ("youden", "sensitivity_90", "specificity_90", "f1")
PROPORTIONS = ("sensitivity", "specificity", "ppv", "npv")
#: The rule of a threshold that the test rows themselves gave; never chosen here.
F1_ON_TEST = "f1_on_test"
#: What a threshold for F1 is judged by.
F1 = "f1"
AGREEMENT = ("accuracy", F1)


def thresholds_of(truth: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """Return the score from which on a unit is called positive, by rule; nothing unless both classes are there.

    `youden`: the largest sensitivity + specificity (Youden 1950), the smallest of equals. `sensitivity_90`: the largest score with a
    sensitivity of at least 0.9; `specificity_90`: the smallest score with a specificity of at least 0.9, absent when none has it. `f1`:
    the largest F1, the smallest of equals.
    """
    positive, negative = np.sort(score[truth == 1]), np.sort(score[truth == 0])
    m, n = len(positive), len(negative)
    if not m or not n:
        return {}
    candidates = np.unique(score)
    hits = m - np.searchsorted(positive, candidates, side="left")
    passed = np.searchsorted(negative, candidates, side="left")
    # In whole numbers, so that equals are equal and 9 of 10 is 0.9.
    found = {"youden": float(candidates[np.argmax(hits * n + passed * m)])}
    found["sensitivity_90"] = float(candidates[np.flatnonzero(10 * hits >= 9 * m)[-1]])
    specific = np.flatnonzero(10 * passed >= 9 * n)
    if len(specific):
        found["specificity_90"] = float(candidates[specific[0]])
    # Quotients of whole numbers: equal ones round to the same float.
    found["f1"] = float(candidates[np.argmax(2 * hits / (hits + n - passed + m))])
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportion:
    """A proportion, averaged over runs, with the interval for new clusters and these runs."""

    value: float
    low: float | None
    high: float | None
    #: Cases that it is a proportion of, mean over runs, and how many independent ones they are worth.
    n: float
    n_effective: float
    #: Runs in which it exists.
    runs: int


def parts_at(truth: np.ndarray, called: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return (numerator, denominator) of each proportion by case, from truths and calls, both 0/1 or boolean (cases,).

    F1 = 2 TP / (2 TP + FP + FN) is one too, with half a case for each that is positive or called and not both.
    """
    truth, called = truth.astype(bool), called.astype(bool)
    return {
        "sensitivity": (truth & called, truth),
        "specificity": (~truth & ~called, ~truth),
        "ppv": (truth & called, called),
        "npv": (~truth & ~called, ~called),
        "accuracy": (truth == called, np.ones(len(truth), bool)),
        F1: (truth & called, (truth.astype(np.float64) + called) / 2),
    }


def proportion(
    runs: Sequence[tuple[np.ndarray, np.ndarray]], cluster: np.ndarray, clusters: int, confidence: float, *, halves: bool = False
) -> Proportion | None:
    """Average a proportion over runs, each (numerator, denominator) by case; None when no run has a denominator.

    The interval is Wilson's with the cases divided by the design effect (Kish 1965): the variance of the mean over runs, from what each
    cluster adds to it, by that of as many independent cases. The effect is at least 1. Where no cluster differs from another there is no
    such variance, and each cluster counts as one case. `halves` is for F1 of independent cases, whose variance F (1 - F) (1 - F/2) / n
    (delta method) is less than that of n cases.
    """
    known = [(above, below) for above, below in runs if below.any()]
    if not known:
        return None
    values = [float(above.sum()) / float(below.sum()) for above, below in known]
    moved = np.mean([_influence(*one, value, cluster, clusters) for one, value in zip(known, values, strict=True)], axis=0)
    value, n = math.fsum(values) / len(values), float(np.mean([below.sum() for _, below in known]))
    # The cases of a proportion are spread over as many clusters as any run calls.
    touched = int(np.count_nonzero(cluster_sums(np.any([below for _, below in known], axis=0).astype(float), cluster, clusters)))
    variance = float(products(moved[None], moved[None])[0, 0])
    most = n / (1 - value / 2) if halves else n
    effective = n if variance <= 0 else min(most, value * (1 - value) / variance)
    if variance <= 0 or effective <= 0:
        effective = float(min(n, touched))
    ends = wilson(value * effective, effective, confidence) if touched > 1 else None
    low, high = ends if ends is not None else (None, None)
    return Proportion(value=value, low=low, high=high, n=n, n_effective=effective, runs=len(known))


def mean_proportion(
    findings: Sequence[tuple[Sequence[tuple[np.ndarray, np.ndarray]], np.ndarray]], clusters: int, confidence: float
) -> Proportion | None:
    """Average a proportion over findings, each (runs, cluster of its cases), with one weight; None when a finding has no value.

    The interval is Wilson's for as many independent cases as give the variance of the mean, by what each cluster adds to all findings
    together; without such a variance there is none.
    """
    values: list[float] = []
    moved: list[np.ndarray] = []
    cases: list[float] = []
    runs = 0
    for several, cluster in findings:
        known = [(above, below) for above, below in several if below.any()]
        if not known:
            return None
        each = [float(above.sum()) / float(below.sum()) for above, below in known]
        moved.append(np.mean([_influence(*one, value, cluster, clusters) for one, value in zip(known, each, strict=True)], axis=0))
        values.append(math.fsum(each) / len(each))
        cases.append(float(np.mean([below.sum() for _, below in known])))
        runs = max(runs, len(known))
    if not values:
        return None
    value, n = math.fsum(values) / len(values), math.fsum(cases)
    total = np.mean(moved, axis=0)
    variance = float(products(total[None], total[None])[0, 0])
    effective = min(n, value * (1 - value) / variance) if variance > 0 else 0.0
    low, high = (wilson(value * effective, effective, confidence) if effective > 0 else None) or (None, None)
    return Proportion(value=value, low=low, high=high, n=n, n_effective=effective, runs=runs)


def _influence(above: np.ndarray, below: np.ndarray, value: float, cluster: np.ndarray, clusters: int) -> np.ndarray:
    numerator, denominator = (cluster_sums(part.astype(np.float64), cluster, clusters) for part in (above, below))
    present = int(np.count_nonzero(denominator))
    factor = math.sqrt(present / (present - 1)) if present > 1 else 1.0
    return factor * (numerator - value * denominator) / denominator.sum()
