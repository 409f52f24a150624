"""One answer with its interval, and what may be wrong with it in one word each. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Fewer positives, negatives, or patients of either, and an interval is conditional on little.
FEW = 10


class Status(StrEnum):
    """A warning that stands beside a number wherever it is printed."""

    #: A class is absent, or in one patient only; or no run is there. There is no interval, perhaps no value.
    NOT_ESTIMABLE = "not_estimable"
    #: Fewer than ten cases or patients of a class.
    FEW_POSITIVES = "few_positives"
    #: Fewer than ten cases or patients at all.
    FEW_CASES = "few_cases"
    #: A threshold was chosen on fewer than ten validation cases of a class.
    FEW_VALIDATION = "few_validation"
    #: A threshold was chosen on the test rows themselves, as published: an F1 is too high there.
    CHOSEN_ON_TEST = "chosen_on_test"
    #: A run reached 0 or 1, where a standard error is zero and means nothing.
    AT_BOUNDARY = "at_boundary"
    #: One run: the interval is of this model on new patients and says nothing of the method.
    ONE_RUN = "one_run"
    #: Planned runs are not there.
    MISSING_RUNS = "missing_runs"
    #: Two arms gave the same value in every run.
    IDENTICAL = "identical"
    #: A run gave every case the same score, so it ranks nothing.
    CONSTANT_SCORES = "constant_scores"
    #: Values without any spread, where a test divides by none.
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One answer: which question (`estimand`), how (`method`), and the numbers. None is a number that does not exist."""

    estimand: str
    method: str
    value: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    #: Degrees of freedom; None where a normal, or no reference distribution at all, was used.
    df: float | None = None
    p: float | None = None
