"""The long form of what is said of a study as a whole: rows of `report.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.report.study.keys import StudyKeys, widths
from orchestrator.report.values import Report, TestSet

#: Fields of a line by name, `key` and `headline` among them.
Row = Mapping[str, Any]
#: Test sets by key.
Sets = Mapping[str, TestSet]


def study_rows(report: Report) -> Iterator[Row]:
    """Yield the fields of a line for every estimate of the study as a whole, in the report's order."""
    made = (_curve_differences, _equivalences, _variance_splits, _margins, _pairs, _groups, _ranks, _borrowed, _averages)
    keys, sets = StudyKeys.of(report), {one.key: one for one in report.test_sets}
    for make in made:
        yield from make(report, keys, sets)


def _of_chains(one: Any, report: Report, test_set: TestSet) -> dict[str, Any]:
    return {
        "sweep": report.sweep,
        "test_set": one.test_set,
        "arm": one.arm,
        "baseline": one.baseline,
        "measure": one.measure,
        "unit": test_set.cluster,
        "estimand": one.estimand,
        "method": one.method,
        "low": one.low,
        "high": one.high,
        "n_patients": test_set.n_patients,
        "n_draws": one.n_chains,
        "status": " ".join(one.status),
        "headline": True,
    }


def _curve_differences(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.curve_differences:
        head = next((found for found in one.estimates if (found.estimand, found.method) == (one.estimand, one.method)), None)
        yield {
            **_of_chains(one, report, sets[one.test_set]),
            "kind": one.kind,
            "size": "all",
            "estimate": one.estimate,
            "se": head.se if head else None,
            "df": head.df if head else None,
            "p": one.p,
            "p_adjusted": one.p_adjusted,
            "adjustment": one.adjustment or None,
            "key": keys.curve(one),
        }


def _equivalences(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.equivalences:
        yield {
            **_of_chains(one, report, sets[one.test_set]),
            "kind": "label_equivalence",
            "size": one.size,
            "estimate": one.factor,
            "status": " ".join([*one.status, *([f"beyond_{one.beyond}"] if one.beyond else [])]),
            "key": keys.equivalence(one),
        }


def _variance_splits(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.variance_splits:
        for name, value in widths(one):
            yield {
                "sweep": report.sweep,
                "test_set": one.test_set,
                "kind": "forecast",
                "arm": one.arm,
                "baseline": one.baseline,
                "size": one.size,
                "measure": one.measure,
                "unit": sets[one.test_set].cluster,
                "estimand": one.estimand,
                "method": name,
                "headline": True,
                "estimate": value,
                "n_patients": sets[one.test_set].n_patients,
                "n_draws": one.n_replicates,
                "status": "",
                "key": keys.width(one, name),
            }


def _margins(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.margins:
        tests = (
            ("equivalence", one.p_equivalent, one.p_equivalent_adjusted, keys.margin(one)),
            ("not_worse", one.p_not_worse, one.p_not_worse_adjusted, keys.not_worse(one)),
        )
        for kind, p, adjusted, key in tests:
            yield {
                "sweep": report.sweep,
                "test_set": one.test_set,
                "kind": kind,
                "arm": one.arm,
                "baseline": one.baseline,
                "size": one.size,
                "measure": one.measure,
                "unit": sets[one.test_set].cluster,
                "estimand": one.estimand,
                "method": f"tost_{one.margin:g}",
                "headline": True,
                "estimate": one.estimate,
                "low": one.low,
                "high": one.high,
                "p": p,
                "p_adjusted": adjusted,
                "adjustment": "holm" if adjusted is not None else None,
                "n_patients": sets[one.test_set].n_patients,
                "n_draws": next((other.n_replicates for other in report.differences if _same(other, one)), 0),
                "status": " ".join(one.status),
                "key": key,
            }


def _pairs(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.pairs:
        yield {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "kind": "pair",
            "arm": one.arm,
            "baseline": one.baseline,
            "size": one.size,
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
            "adjustment": "max_t",
            "n_patients": sets[one.test_set].n_patients,
            "n_draws": one.n_replicates,
            "status": " ".join(one.status),
            "key": keys.pair(one),
        }


def _groups(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.groups:
        head = next((found for found in one.estimates if (found.estimand, found.method) == (one.estimand, one.method)), None)
        yield {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "kind": "groups",
            "arm": one.group,
            "baseline": one.other,
            "size": one.size,
            "measure": one.measure,
            "unit": sets[one.test_set].cluster,
            "estimand": one.estimand,
            "method": one.method,
            "headline": True,
            "estimate": one.estimate,
            "low": one.low,
            "high": one.high,
            "se": head.se if head else None,
            "df": head.df if head else None,
            "p": one.p,
            "p_adjusted": one.p_adjusted,
            "adjustment": one.adjustment or None,
            "n_patients": sets[one.test_set].n_patients,
            "n_draws": one.n_replicates,
            "status": " ".join(one.status),
            "key": keys.groups(one),
        }


def _ranks(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.ranks:
        common_rank = {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "arm": one.arm,
            "size": one.size,
            "measure": one.measure,
            "unit": sets[one.test_set].cluster,
            "estimand": one.estimand,
            "method": "crossed_bootstrap",
            "headline": True,
            "B": report.resamples,
            "n_patients": sets[one.test_set].n_patients,
            "n_draws": one.n_replicates,
            "status": "",
        }
        yield {**common_rank, "kind": "rank", "estimate": one.mean_rank, "low": one.low, "high": one.high, "key": keys.rank(one)}
        yield {**common_rank, "kind": "rank_first", "estimate": one.first, "key": keys.first(one)}


def _borrowed(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.borrowed:
        yield {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "kind": "borrowed",
            "arm": one.arm,
            "baseline": one.baseline,
            "size": one.size,
            "measure": one.measure,
            "unit": sets[one.test_set].cluster,
            "estimand": one.estimand,
            "method": f"borrowed_from_{one.from_size}",
            "headline": True,
            "estimate": one.estimate,
            "low": one.low,
            "high": one.high,
            "se": one.se,
            "df": one.df,
            "n_patients": sets[one.test_set].n_patients,
            "n_draws": one.n_replicates,
            "status": "one_run",
            "key": keys.borrowed(one),
        }


def _averages(report: Report, keys: StudyKeys, sets: Sets) -> Iterator[Row]:
    for one in report.study.averages:
        head = next((found for found in one.estimates if (found.estimand, found.method) == (one.estimand, one.method)), None)
        row = {
            "sweep": report.sweep,
            "test_set": "+".join(one.test_sets),
            "kind": "average" if one.baseline is None else "average_difference",
            "arm": one.arm,
            "baseline": one.baseline,
            "size": one.size,
            "measure": one.measure,
            "unit": sets[one.test_sets[0]].cluster,
            "n_patients": one.n_clusters,
            "n_draws": one.n_replicates,
            "status": " ".join(one.status),
            "key": keys.average(one),
        }
        yield {
            **row,
            "estimand": one.estimand,
            "method": one.method,
            "headline": True,
            "estimate": one.estimate,
            "low": one.low,
            "high": one.high,
            "se": head.se if head else None,
            "df": head.df if head else None,
            "p": one.p,
            "p_adjusted": one.p_adjusted,
            "adjustment": one.adjustment or None,
        }
        for twin in one.estimates:
            if twin is not head:
                answer = {name: getattr(twin, name) for name in ("estimand", "method", "low", "high", "se", "df", "p")}
                resampled = report.resamples if "bootstrap" in twin.method else None
                yield {**row, **answer, "headline": False, "estimate": twin.value, "B": resampled}


def _same(one: Any, other: Any) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("test_set", "contrast", "arm", "baseline", "size"))
