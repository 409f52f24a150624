"""The long form of what runs alone say: rows of `report.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.report.keys import VERSUS, Keys, slug
from orchestrator.report.values import Difference, ReplicateTest, Report, SwapTest, View


def alone_rows(report: Report) -> Iterator[Mapping[str, Any]]:
    """Yield the fields of a line for every test over replicates or of two models, for its smallest p, and for every view."""
    keys, sets = Keys.of(report.test_sets), {one.key: one for one in report.test_sets}
    # What a test over replicates asks is what the t interval of the same difference asks.
    asked = {_place(one): each.estimand for one in report.differences for each in one.estimates if each.method == "t"}

    def common(one: ReplicateTest | SwapTest | View) -> dict[str, Any]:
        test_set = sets[one.test_set]
        pair = keys.arms[one.test_set, one.arm] + ("" if one.baseline is None else VERSUS + keys.arms[one.test_set, one.baseline])
        return {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "arm": one.arm,
            "baseline": one.baseline,
            "size": one.size,
            "measure": test_set.measure,
            "unit": test_set.cluster,
            "estimand": "these_models_this_test_set",
            "headline": True,
            "estimate": None,
            "n_patients": test_set.n_patients,
            "status": "",
            "key": "/".join([slug(one.test_set), pair, one.size.partition("=")[2] or one.size, test_set.measure]),
        }

    for test in report.replicate_tests:
        row = common(test)
        row |= {
            "estimand": asked.get(_place(test), "new_draws_this_test_set"),
            "method": test.method,
            "df": test.df,
            "n_draws": test.n,
            "status": " ".join(test.status),
        }
        yield {**row, "kind": "replicate_test", "p": test.p, "key": f"{row['key']}/{test.method}"}
        if test.smallest_p:
            yield {**row, "kind": "replicate_test_smallest_p", "p": test.smallest_p, "key": f"{row['key']}/{test.method}_smallest"}
    for swap in report.swap_tests:
        row = common(swap) | {
            "estimand": f"these_models_new_{sets[swap.test_set].cluster}",
            "method": "patient_swap",
            "label": swap.label,
            "measure": sets[swap.test_set].measure if swap.label is None else "auroc",
            "n_draws": 1,
            "status": " ".join(swap.status),
        }
        key = keys.swap(swap, sets[swap.test_set].measure)
        yield {**row, "kind": "swap_test", "estimate": swap.statistic, "p": swap.p, "key": key}
        if swap.smallest_p is not None:
            yield {**row, "kind": "swap_test_smallest_p", "p": swap.smallest_p, "key": f"{key}_smallest"}
    for view in report.views:
        row = common(view)
        yield {
            **row,
            "kind": view.name,
            "estimand": view.estimand,
            "method": view.method,
            "estimate": view.value,
            "low": view.low,
            "high": view.high,
            "B": None if view.low is None else report.resamples,
            "n_draws": view.n_replicates,
            "status": " ".join(view.status),
            "key": keys.view(view, sets[view.test_set].measure),
        }


def _place(one: Difference | ReplicateTest) -> tuple[str, ...]:
    return one.test_set, one.contrast, one.arm, one.baseline, one.size
