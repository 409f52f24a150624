"""One number over findings and replicates together, as a report holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One number over findings and replicates together, with the interval of the crossed bootstrap; the findings are not drawn again.

    `name` is `interquartile_mean`, `interquartile_mean_difference` or `probability_of_improvement`.
    """

    test_set: str
    arm: str
    #: The arm that runs are set against; None where an arm stands alone.
    baseline: str | None
    size: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    estimand: str
    #: crossed_bootstrap, patient_bootstrap where there is one run, or none.
    method: str
    #: As of a difference; empty for an arm.
    matching: str = ""
    status: tuple[str, ...] = ()
    n_replicates: int
    n_findings: int
