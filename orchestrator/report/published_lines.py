"""What original studies' procedures make of the runs in the long form: never the headline, and named apart from this report's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.report.keys import VERSUS, Keys, slug
from orchestrator.report.values import Published, Report

#: Kinds of these rows: no text means one of them unless it says so by name.
KINDS = ("as_published", "as_published_sd", "as_published_beside")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKeys:
    """Names the numbers of `as_published`: `test set/arm/size/measure@as_published_ark`, with `arm-vs-baseline` for a difference.

    `@as_published_ark_sd` is the standard deviation over runs beside it, `@beside_ark` what this report says of the same.
    """

    keys: Keys
    measures: Mapping[str, str]

    @classmethod
    def of(cls, report: Report) -> PublishedKeys:
        """Name the numbers of a report."""
        return cls(keys=Keys.of(report.test_sets), measures={one.key: one.measure for one in report.test_sets})

    def base(self, one: Published) -> str:
        """Name what a row is about, whoever says it."""
        arm = self.keys.arms[one.test_set, one.arm]
        arm += VERSUS + self.keys.arms[one.test_set, one.baseline] if is_difference(one) and one.baseline is not None else ""
        tail = [] if one.label is None else [one.label]
        return "/".join([slug(one.test_set), arm, one.size.partition("=")[2] or one.size, self.measures[one.test_set], *tail])

    def theirs(self, one: Published) -> str:
        """Name what an original would have printed."""
        return f"{self.base(one)}@as_published_{one.procedure}"

    def spread(self, one: Published) -> str:
        """Name the standard deviation over runs that an original would have printed."""
        return f"{self.theirs(one)}_sd"

    def ours(self, one: Published) -> str:
        """Name what this report says beside it."""
        return f"{self.base(one)}@beside_{one.procedure}"


def is_difference(one: Published) -> bool:
    """Tell whether the numbers of a row are of a difference: a procedure over runs prints the arm itself, and tests it against the best."""
    return one.baseline is not None and one.spread is None


def published_rows(report: Report) -> Iterator[Mapping[str, Any]]:
    """Yield the fields of a line for every number of `as_published`, and for what this report says beside it."""
    keys, sets = PublishedKeys.of(report), {one.key: one for one in report.test_sets}
    seen: set[str] = set()
    for one in report.as_published:
        # Two contrasts may declare the same difference; it is printed once and said twice.
        if keys.theirs(one) in seen:
            continue
        seen.add(keys.theirs(one))
        test_set = sets[one.test_set]
        bare: dict[str, Any] = {
            "sweep": report.sweep,
            "test_set": one.test_set,
            "arm": one.arm,
            "baseline": one.baseline,
            "size": one.size,
            "label": one.label,
            "measure": test_set.measure,
            "unit": test_set.unit,
            "estimand": f"as_published_{one.procedure}",
            "headline": False,
            "n_patients": test_set.n_patients,
            "n_draws": one.n_runs,
            "status": " ".join(one.status),
            "key": keys.base(one),
        }
        bounds = {"estimate": one.estimate, "low": one.low, "high": one.high, "p": one.p}
        yield {**bare, **bounds, "kind": "as_published", "method": f"as_published_{one.procedure}"}
        if one.spread is not None:
            yield {**bare, "kind": "as_published_sd", "method": f"as_published_{one.procedure}_sd", "estimate": one.spread}
        if one.ours_estimate is not None:
            beside = {"estimate": one.ours_estimate, "low": one.ours_low, "high": one.ours_high, "p_adjusted": one.ours_p}
            about = {"kind": "as_published_beside", "method": f"beside_{one.procedure}", "unit": test_set.cluster, "status": ""}
            yield {**bare, **beside, **about, "estimand": one.ours_estimand}
