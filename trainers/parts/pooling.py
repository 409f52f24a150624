"""How the last feature map becomes one vector."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor

Pooling: TypeAlias = Literal["max", "avg", "lse"]


def pool(maps: Tensor, how: Pooling, r: float = 10.0) -> Tensor:
    """Return (B, K) float32 of feature maps (B, K, h, w): maximum, mean, or log-mean-exp."""
    maps = maps.float()
    if how == "max":
        return maps.amax((2, 3))
    return maps.mean((2, 3)) if how == "avg" else log_mean_exp(maps, r)


def log_mean_exp(maps: Tensor, r: float) -> Tensor:
    """Return (1/r) log(mean of exp(r f)) over the last two axes (Wang et al. 2017, equation 3, the maximum taken out of the sum)."""
    spread = (r * maps).flatten(-2)
    return (spread.logsumexp(-1) - math.log(spread.shape[-1])) / r
