"""Where the values of a measure lie, and which of its intervals stands first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How intervals of a measure are formed."""

    #: A standard error means nothing at these ends.
    low: float = 0.0
    high: float | None = 1.0
    #: One arm's interval is symmetric on the logit scale; else on the raw one. Needs both ends, 0 and 1.
    logit: bool = True
    #: The resampled interval is the headline, because the measure is not near linear in the cases.
    resampled: bool = False
    #: Which interval has a width at 0 or 1: of an area (Newcombe), of a proportion of clusters (Wilson), or none.
    edge: Literal["newcombe", "wilson", ""] = ""
    #: Few clusters carry the values (tens of segmented patients): degrees of freedom are theirs at most.
    few_clusters: bool = False

    def at_end(self, value: float) -> bool:
        """Tell whether a value is at an end of the scale."""
        return value <= self.low or (self.high is not None and value >= self.high)

    def inside(self, low: float, high: float) -> tuple[float, float]:
        """Return an interval cut to the scale."""
        return max(low, self.low), high if self.high is None else min(high, self.high)


AREA = Scale(edge="newcombe")
