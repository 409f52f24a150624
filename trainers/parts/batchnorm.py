"""BatchNorm over groups of a fixed number of images, so that the batch it normalises over is not the machine's choice.

In training, a plain BatchNorm normalises over whatever one forward pass on one process holds: 1 process or 2, one pass or four
accumulated ones are different experiments. Over groups they are the same one ("ghost batches", Hoffer et al. 2017, algorithm 1).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn


class Grouped:
    """The part of a grouped BatchNorm that is put before its own class: train mode runs group by group, in order."""

    bn_images: int
    training: bool

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...) over groups of `bn_images` images, the last one smaller when it does not divide N."""
        whole: Any = super()
        if not self.training or len(x) <= self.bn_images:
            return whole.forward(x)
        return torch.cat([whole.forward(part) for part in x.split(self.bn_images)])


@functools.cache
def _grouped_class(plain: type) -> type:
    return type(f"Grouped{plain.__name__}", (Grouped, plain), {"__module__": __name__})


def group_batchnorm(module: nn.Module, bn_images: int) -> int:
    """Make every BatchNorm2d in a module (timm's with an activation too) normalise over groups of `bn_images` images in training.

    In place: parameters, buffers, names and modules stay the same objects, only the class changes. Those that are grouped already keep
    their size, so a method may group a part of itself differently first. Returns how many were changed. Raises ValueError for a
    cumulative average (momentum None), whose weight would depend on the number of groups.
    """
    count = 0
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d) and not isinstance(part, Grouped):
            if part.momentum is None:
                raise ValueError("BatchNorm with momentum None cannot be grouped: give it a momentum")
            part.__class__ = _grouped_class(type(part))
            part.bn_images = bn_images  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
            count += 1
    return count


def live_batchnorms(module: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """Give the BatchNorm modules that are in train mode and so depend on what else is in the batch."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training:
            yield part  # pyright: ignore[reportReturnType]


class RunningStatistics:
    """Keeps running statistics equal over processes, as if one process had seen all groups, rank 0's first.

    A group with statistic s makes r into (1 - m) r + m s. So k groups make r into a^k r + c with a = 1 - m and c free of r: each process
    applies its own groups to the common start, and afterwards the c of all are applied in order of rank.
    """

    def __init__(self, module: nn.Module) -> None:
        found = (part for part in module.modules() if isinstance(part, nn.BatchNorm2d))
        self._parts = [part for part in found if part.running_mean is not None]
        self._start: list[tuple[Tensor, Tensor]] = []

    def remember(self) -> None:
        """Remember the statistics before a step."""
        self._start = [(_statistics(part).clone(), _counter(part).clone()) for part in self._parts]

    @torch.no_grad()
    def combine(self) -> None:
        """Replace each process's statistics after a step by those of all, in order of rank."""
        if not self._parts:
            return
        mine = torch.cat([torch.cat([_statistics(part), (_counter(part) - seen).reshape(1)]) for part, (_, seen) in self._pairs()])
        everyone = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(everyone, mine)
        offset = 0
        for part, (start, seen) in self._pairs():
            after, groups = start.clone(), seen.clone()
            for other in everyone:
                theirs, count = other[offset : offset + len(start)], other[offset + len(start)]
                kept = (1.0 - float(part.momentum or 0.0)) ** count
                after = kept * after + (theirs - kept * start)
                groups += count.to(groups.dtype)
            half = len(after) // 2
            part.running_mean, part.running_var = _copied(part.running_mean, after[:half]), _copied(part.running_var, after[half:])
            part.num_batches_tracked = _copied(part.num_batches_tracked, groups)
            offset += len(start) + 1

    def _pairs(self) -> Iterator[tuple[nn.BatchNorm2d, tuple[Tensor, Tensor]]]:
        return zip(self._parts, self._start, strict=True)


def _statistics(part: nn.BatchNorm2d) -> Tensor:
    assert part.running_mean is not None and part.running_var is not None
    return torch.cat([part.running_mean, part.running_var]).double()


def _counter(part: nn.BatchNorm2d) -> Tensor:
    assert part.num_batches_tracked is not None
    return part.num_batches_tracked.double()


def _copied(buffer: Tensor | None, value: Tensor) -> Tensor:
    assert buffer is not None
    return buffer.copy_(value)
