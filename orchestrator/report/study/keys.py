"""Short names of the numbers that concern a study as a whole, in the manner of `orchestrator.report.keys`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.report.keys import VERSUS, Keys, slug
from orchestrator.report.study.values import (
    ArmRank,
    Average,
    Borrowed,
    CurveDifference,
    Equivalence,
    GroupDifference,
    MarginVerdict,
    PairDifference,
    VarianceSplit,
)
from orchestrator.report.values import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyKeys:
    """Names numbers by test set, pair of arms and what they are."""

    #: (test set, arm) -> the arm's short name.
    arms: Mapping[tuple[str, str], str]

    @classmethod
    def of(cls, report: Report) -> StudyKeys:
        """Name the arms of a report as its cells name them."""
        return cls(arms=Keys.of(report.test_sets).arms)

    def curve(self, one: CurveDifference) -> str:
        """Name an area between curves or a trend: `test set/arm-vs-baseline/area_between/measure`."""
        return "/".join([self._pair(one), one.kind, one.measure])

    def equivalence(self, one: Equivalence) -> str:
        """Name a label-equivalence factor: `test set/arm-vs-baseline/size/measure/labels`."""
        return "/".join([self._pair(one), one.size.partition("=")[2] or one.size, one.measure, "labels"])

    def width(self, one: VarianceSplit, name: str) -> str:
        """Name a half width, see `widths`: `test set/arm/size/measure/half_width`."""
        return "/".join([self._pair(one), one.size.partition("=")[2] or one.size, one.measure, name])

    def margin(self, one: MarginVerdict) -> str:
        """Name a test of equivalence: `test set/arm-vs-baseline/size/measure/equivalent`."""
        return "/".join([self._pair(one), one.size.partition("=")[2] or one.size, one.measure, "equivalent"])

    def not_worse(self, one: MarginVerdict) -> str:
        """Name a test of non-inferiority: `test set/arm-vs-baseline/size/measure/not_worse`."""
        return "/".join([self._pair(one), one.size.partition("=")[2] or one.size, one.measure, "not_worse"])

    def pair(self, one: PairDifference) -> str:
        """Name one of all pairs: `test set/arm-vs-other/size/measure/all_pairs`."""
        return "/".join([self._pair(one), one.size.partition("=")[2] or one.size, one.measure, "all_pairs"])

    def groups(self, one: GroupDifference) -> str:
        """Name a difference of the best of two groups: `test set/group-vs-other/size/measure/groups`."""
        named = f"{slug(one.group)}{VERSUS}{slug(one.other)}"
        return "/".join([slug(one.test_set), named, one.size.partition("=")[2] or one.size, one.measure, "groups"])

    def rank(self, one: ArmRank) -> str:
        """Name a mean place: `test set/arm/size/measure/rank`."""
        named = self.arms[one.test_set, one.arm]
        return "/".join([slug(one.test_set), named, one.size.partition("=")[2] or one.size, one.measure, "rank"])

    def first(self, one: ArmRank) -> str:
        """Name how often an arm is first: `test set/arm/size/measure/first`."""
        return self.rank(one).removesuffix("rank") + "first"

    def borrowed(self, one: Borrowed) -> str:
        """Name a borrowed interval: `test set/arm/size/measure/borrowed`."""
        return "/".join([self._pair(one), one.size.partition("=")[2] or one.size, one.measure, "borrowed"])

    def average(self, one: Average) -> str:
        """Name an average over test sets: `all-test-sets/arm/size/measure`, with `arm-vs-baseline` for a difference."""
        named = self._averaged(one.arm, one.title, one.test_sets)
        if one.baseline is not None:
            named += VERSUS + self._averaged(one.baseline, one.baseline_title or one.baseline, one.test_sets)
        return "/".join(["all-test-sets", named, one.size.partition("=")[2] or one.size, one.measure])

    def _averaged(self, arm: str, title: str, test_sets: tuple[str, ...]) -> str:
        """Return the short name of an averaged arm: as on the last test set, or by its title where it is another model on each."""
        return self.arms.get((test_sets[-1], arm)) or slug(title)

    def _pair(self, one: Borrowed | CurveDifference | Equivalence | MarginVerdict | PairDifference | VarianceSplit) -> str:
        pair = self.arms[one.test_set, one.arm]
        pair += "" if one.baseline is None else VERSUS + self.arms[one.test_set, one.baseline]
        return f"{slug(one.test_set)}/{pair}"


def widths(one: VarianceSplit) -> list[tuple[str, float]]:
    """Return the half widths of a split by name: now, as forecast, and with any number of draws."""
    named = [("half_width", one.half_width)]
    for each in one.forecasts:
        more = f"{each.replicates}_replicates" if each.patients == 1 else f"{each.patients:g}x_patients"
        named.append((f"half_width_{more}", each.half_width))
    return [*named, ("half_width_limit", one.limit)]
