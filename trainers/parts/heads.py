"""What sits on a backbone: a linear classifier, and MoCo v2's projection."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def linear(features: int, outputs: int, *, seed: int | None = None) -> nn.Linear:
    """Build a linear head with weights N(0, 0.01) and zero bias, (B, features) -> (B, outputs)."""
    head = nn.Linear(features, outputs)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head.weight.normal_(0.0, 0.01, generator=generator)
        head.bias.zero_()
    return head


def projection(features: int, outputs: int, *, hidden: bool, seed: int) -> nn.Module:
    """Build a projection head: Linear(d, d), ReLU, Linear(d, out) when `hidden` (MoCo v2), one Linear otherwise (MoCo v1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if hidden:
            return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, outputs))
        return nn.Linear(features, outputs)


@torch.no_grad()
def fill(head: nn.Linear, weights: NDArray[np.floating], biases: NDArray[np.floating]) -> None:
    """Set a linear head from weights (outputs, features) and biases (outputs,)."""
    head.weight.copy_(torch.from_numpy(weights))
    head.bias.copy_(torch.from_numpy(biases))
