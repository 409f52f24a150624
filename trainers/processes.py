"""Several processes as one: shares of a batch, gradients, numbers to log. One process is the case without any of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from trainers.api import Trainer
from trainers.errors import Error


class Objective(nn.Module):
    """A method's loss as a module's forward pass, which is where DistributedDataParallel hooks in."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.module = trainer.module
        self._trainer = [trainer]  # In a list: a method that is itself a module must not become a child.

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the method's loss and what it logs."""
        return self._trainer[0].loss(batch)


class Processes:
    """The process group that the caller set up, or this process alone."""

    def __init__(self) -> None:
        grouped = distributed.is_available() and distributed.is_initialized()
        self.count = distributed.get_world_size() if grouped else 1
        self.rank = distributed.get_rank() if grouped else 0

    @property
    def is_first(self) -> bool:
        """Tell whether this process writes and logs."""
        return self.rank == 0

    def wrap(self, trainer: Trainer) -> nn.Module:
        """Return the loss as a module whose backward pass averages gradients over the processes."""
        objective = Objective(trainer)
        if self.count == 1:
            return objective
        # Running statistics are combined by `RunningStatistics`; broadcasting those of rank 0 would lose the others'.
        return DistributedDataParallel(objective, broadcast_buffers=False)

    def no_sync(self, objective: nn.Module) -> AbstractContextManager[object]:
        """Return the context of a pass whose gradients only accumulate."""
        return objective.no_sync() if isinstance(objective, DistributedDataParallel) else contextlib.nullcontext()

    def share(self, total: int, unit: int) -> tuple[int, int]:
        """Return which samples of a batch of `total` are this process's, cut between units. Raises Error when a process gets none."""
        units = -(-total // unit)
        if units < self.count:
            raise Error(
                f"a batch of {total} images cannot be shared by {self.count} processes in groups of {unit}: set a batch_size of at least "
                f"{self.count * unit}, drop a last batch that is smaller, or ask for fewer GPUs"
            )
        low, high = (units * rank // self.count for rank in (self.rank, self.rank + 1))
        return low * unit, min(high * unit, total)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def gather(self, value: Mapping[str, Any]) -> list[Any]:
        """Return what every process gives, by rank."""
        if self.count == 1:
            return [value]
        everyone: list[Any] = [None] * self.count
        distributed.all_gather_object(everyone, value)
        return everyone


def gradients_times(optimizer: torch.optim.Optimizer, factor: Tensor) -> None:
    """Multiply every gradient of an optimizer's parameters by a factor."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    torch._foreach_mul_(grads, factor)  # pyright: ignore[reportPrivateImportUsage]
