"""A slow copy of a network: exponential moving averages of parameters."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def slow_copy(module: nn.Module) -> nn.Module:
    """Return a copy that starts equal and takes no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Set every parameter to momentum * slow + (1 - momentum) * fast, in float32.

    Buffers are left alone: the running statistics of a momentum encoder evolve from its own forward passes (MoCo, section 3.3); those of
    one that never is in train mode follow by `update_buffers`.
    """
    ours: list[Tensor] = [p.data for p in slow.parameters()]
    theirs: list[Tensor] = [p.detach() for p in fast.parameters()]
    torch._foreach_lerp_(ours, theirs, 1.0 - momentum)  # pyright: ignore[reportPrivateImportUsage]


@torch.no_grad()
def update_buffers(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Set every floating buffer (running statistics) to momentum * slow + (1 - momentum) * fast, and copy counters."""
    for ours, theirs in zip(slow.buffers(), fast.buffers(), strict=True):
        if ours.is_floating_point():
            ours.lerp_(theirs, 1.0 - momentum)
        else:
            ours.copy_(theirs)
