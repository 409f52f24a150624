"""Short names of the numbers in a report: what the CSV, the LaTeX tables and `report --check` call each of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.report.values import Cell, Difference, FoldArea, SwapTest, TestSet, View

#: Between the two arms of a difference.
VERSUS = "-vs-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Names the numbers of a report: `test set/arm/size/measure`, `/finding` after it where it is one finding's.

    A difference has `arm-vs-baseline` in the second place. What follows a point says which number of an estimate: `.low`, `.p_adjusted`.
    """

    #: (test set, arm) -> the arm's short name.
    arms: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, test_sets: Iterable[TestSet]) -> Keys:
        """Name the arms of some test sets by their titles; titles that come out alike are numbered."""
        named: dict[tuple[str, str], str] = {}
        for one in test_sets:
            for arm, name in zip(one.arms, _distinct([slug(arm.title) for arm in one.arms]), strict=True):
                named[one.key, arm.key] = name
        return cls(arms=named)

    def cell(self, one: Cell) -> str:
        """Name a cell."""
        return _joined(one.test_set, self.arms[one.test_set, one.arm], one.size, one.measure, one.label)

    def difference(self, one: Difference) -> str:
        """Name a difference."""
        pair = self.arms[one.test_set, one.arm] + VERSUS + self.arms[one.test_set, one.baseline]
        return _joined(one.test_set, pair, one.size, one.measure, one.label)

    def swap(self, one: SwapTest, measure: str) -> str:
        """Name a test of two models: `test set/arm-vs-baseline/size/measure/patient_swap`, the finding before the last."""
        named = self.arms[one.test_set, one.arm] + VERSUS + self.arms[one.test_set, one.baseline]
        return f"{_joined(one.test_set, named, one.size, measure, one.label)}/patient_swap"

    def view(self, one: View, measure: str) -> str:
        """Name a view: `test set/arm/size/measure/interquartile_mean`, with `arm-vs-baseline` for one of two arms."""
        named = self.arms[one.test_set, one.arm]
        named += "" if one.baseline is None else VERSUS + self.arms[one.test_set, one.baseline]
        return _joined(one.test_set, named, one.size, measure, one.name)

    def fold(self, one: FoldArea) -> str:
        """Name an area within folds."""
        return _joined(one.test_set, self.arms[one.test_set, one.arm], "folds", "auroc", one.label)


def slug(text: str) -> str:
    """Write a title with small letters, digits and hyphens alone; `arm` where nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9.]+", "-", plain.lower()).strip("-.") or "arm"


def _joined(test_set: str, arm: str, size: str, measure: str, label: str | None) -> str:
    # A measure may hold a slash of its own (`auroc/edema`); a finding's area is then said once.
    tail = [] if label is None or measure.endswith(f"/{label}") else [label]
    return "/".join([slug(test_set), arm, size.partition("=")[2] or size, measure, *tail])


def _distinct(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    found: list[str] = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found
