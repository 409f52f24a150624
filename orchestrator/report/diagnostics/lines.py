"""Operating points and calibration in the long form, and what texts and tables call their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.report.diagnostics.values import Calibration, OperatingPoint
from orchestrator.report.keys import Keys, slug
from orchestrator.report.values import Report

#: Fields of a line by name, `key` and `headline` among them.
Row = Mapping[str, Any]


def name_of(keys: Keys, one: OperatingPoint | Calibration, what: str) -> str:
    """Name a number: `test set/arm/size/what/finding`."""
    return "/".join([slug(one.test_set), keys.arms[one.test_set, one.arm], one.size.partition("=")[2] or one.size, what, one.label])


def errors_of(one: Calibration) -> tuple[tuple[str, float | None, float | None, float | None], ...]:
    """Return the numbers of a calibration by name, each with its interval."""
    return (
        ("calibration_brier", one.brier, one.brier_low, one.brier_high),
        ("calibration_reliability", one.reliability, None, None),
        ("calibration_resolution", one.resolution, None, None),
        ("calibration_uncertainty", one.uncertainty, None, None),
        ("ece_equal_width", one.ece_equal_width, one.ece_equal_width_low, one.ece_equal_width_high),
        ("ece_equal_mass", one.ece_equal_mass, one.ece_equal_mass_low, one.ece_equal_mass_high),
        ("calibration_debiased", one.debiased, None, None),
    )


def diagnostic_rows(report: Report) -> Iterator[Row]:
    """Yield the fields of a line for every number of the diagnostics, in the report's order."""
    keys, sets = Keys.of(report.test_sets), {one.key: one for one in report.test_sets}

    def common(one: OperatingPoint | Calibration, what: str) -> dict[str, Any]:
        test_set = sets[one.test_set]
        return {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "arm": one.arm,
            "size": one.size,
            "label": one.label,
            "measure": what,
            "unit": test_set.cluster,
            "estimand": one.estimand,
            "headline": True,
            "n_patients": test_set.n_patients,
            "n_draws": one.n_runs,
            "key": name_of(keys, one, what),
        }

    for one in report.diagnostics.operating_points:
        if one.threshold is not None:
            ends = {"low": one.threshold_low, "high": one.threshold_high}
            about = {"kind": "threshold", "method": "range_over_runs", "status": " ".join(one.status), "estimate": one.threshold}
            yield {**common(one, f"{one.rule}_threshold"), **about, **ends}
        for share in one.shares:
            about = {"kind": "operating_point", "method": one.method, "status": " ".join((*one.status, *share.status))}
            numbers = {"estimate": share.estimate, "low": share.low, "high": share.high}
            yield {**common(one, f"{one.rule}_{share.name}"), **about, **numbers}
    for one in report.diagnostics.calibrations:
        for what, value, low, high in errors_of(one):
            about = {"kind": "calibration", "method": "influence", "status": " ".join(one.status)}
            yield {**common(one, what), **about, "estimate": value, "low": low, "high": high}
