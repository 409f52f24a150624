"""Subgroups in the long form, and what texts and tables call their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.report.keys import VERSUS, Keys, slug
from orchestrator.report.subgroups.values import SubgroupEstimate
from orchestrator.report.values import Report

#: Fields of a line by name, `key` and `headline` among them.
Row = Mapping[str, Any]


def name_of(keys: Keys, one: SubgroupEstimate) -> str:
    """Name a number: `test set/arm/size/measure/column/value`, or `arm-vs-baseline` in the second place."""
    arm = keys.arms[one.test_set, one.arm]
    arm += "" if one.baseline is None else VERSUS + keys.arms[one.test_set, one.baseline]
    return "/".join([slug(one.test_set), arm, one.size.partition("=")[2] or one.size, one.measure, slug(one.column), slug(one.value)])


def subgroup_rows(report: Report) -> Iterator[Row]:
    """Yield the fields of a line for every number of the subgroups, in the report's order."""
    keys, sets = Keys.of(report.test_sets), {one.key: one for one in report.test_sets}
    sizes = {(one.test_set, one.column, one.value): one.n_clusters for one in report.subgroups.groups}
    for one in report.subgroups.estimates:
        yield {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "kind": "subgroup",
            "arm": one.arm,
            "baseline": one.baseline,
            "size": one.size,
            "label": f"{one.column}={one.value}",
            "measure": one.measure,
            "unit": sets[one.test_set].cluster,
            "estimand": one.estimand,
            "method": one.method,
            "headline": True,
            "estimate": one.estimate,
            "low": one.low,
            "high": one.high,
            "p": one.p,
            "p_adjusted": one.p_adjusted,
            "adjustment": "benjamini_hochberg" if one.p_adjusted is not None else None,
            "n_patients": sizes[one.test_set, one.column, one.value],
            "n_draws": one.n_replicates,
            "status": " ".join(one.status),
            "key": name_of(keys, one),
        }
