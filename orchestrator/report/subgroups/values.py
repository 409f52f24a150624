"""Values of subgroups: the headline measure of every arm and difference in each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """One subgroup of a test set, and how much of it there is."""

    test_set: str
    #: The declared column, and its value; a band such as `40 to 59` of a column of numbers.
    column: str
    value: str
    n_units: int
    n_clusters: int
    #: Findings that the measure is over here, and over the whole test set: with other findings it is another measure.
    n_findings: int
    n_findings_overall: int
    status: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupEstimate:
    """One arm in one subgroup; or, with a baseline, its difference from it there."""

    test_set: str
    column: str
    value: str
    arm: str
    #: None for an arm by itself.
    baseline: str | None
    contrast: str
    size: str
    measure: str
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    #: Benjamini-Hochberg over the subgroups of one column, difference and size: exploratory.
    p_adjusted: float | None
    family: int
    estimand: str
    method: str
    n_replicates: int
    status: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroups:
    """All of them."""

    groups: tuple[Subgroup, ...] = ()
    estimates: tuple[SubgroupEstimate, ...] = ()
    #: What is not there, and why.
    notes: tuple[str, ...] = ()
