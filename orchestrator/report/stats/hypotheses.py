"""What a test of a hypothesis gave, and the smallest p that it could have given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.report.stats.estimate import Status

#: Numbers that differ by less than this share of the largest are the same number, computed in another order.
SAME = 1e-13


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisTest:
    """One two-sided test. None is a number that does not exist, and `status` says why."""

    method: str
    #: Observations, pairs, or discordant pairs: what the p value rests on.
    n: int
    statistic: float | None = None
    p: float | None = None
    #: No data of this size and these ties can give a smaller p; 0 where the reference distribution is continuous.
    smallest_p: float | None = None
    df: float | None = None
    #: False where a normal or a sample of assignments stood in for all of them.
    exact: bool = True
    #: Assignments that were listed or sampled; 0 where none were needed.
    assignments: int = 0
    status: tuple[Status, ...] = ()

    def can_reach(self, level: float) -> bool:
        """Tell whether any outcome of this test would have been below `level`: where not, `p > level` says nothing."""
        return self.smallest_p is not None and self.smallest_p < level


def finite(values: np.ndarray, name: str) -> np.ndarray:
    """Return a sample as float64 (n,). Raises ValueError on another shape, and on NaN or infinity."""
    sample = np.asarray(values, np.float64)
    if sample.ndim != 1:
        raise ValueError(f"{name} has shape {sample.shape}; a test takes one value for each observation")
    if not np.isfinite(sample).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(sample)).sum())} values that are not finite; leave them out, and say so")
    return sample
