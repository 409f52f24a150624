"""Several processes as one: how they join, shares of a batch, gradients, numbers to log. One process is the case without any of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from trainers.api import Trainer
from trainers.errors import Error, GroupBroken

#: How long a process waits for the others at one point. Who started them learns of a process that ended long before that; this is for one
#: that lives and does not come, while the first may be writing a checkpoint to a slow disk.
PATIENCE = timedelta(minutes=30)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One of the processes that train one model together, and how they find each other."""

    rank: int
    count: int
    #: Which one it is of its own machine; it takes the GPU of that number.
    local_rank: int
    #: Where the first process is reached.
    address: str
    #: For the first process to call when it has built its method: with the port that it serves at, or with None when it needs nobody.
    announce: Callable[[int | None], None] | None = None
    #: For the others to call before they build theirs: waits for that port.
    find: Callable[[], int] | None = None


@contextlib.contextmanager
def joined(group: Group | None, port: int, device: torch.device) -> Iterator[None]:
    """Be one of a group of processes (NCCL on GPUs, Gloo elsewhere) for a while; None is this process alone.

    `port` is what `group.find` returned; the first process opens one of its own. Raises GroupBroken when the others are lost.
    """
    if group is None:
        yield
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _saying_who_is_lost(group):
        store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            group.address, port, is_master=group.announce is not None, timeout=PATIENCE, wait_for_workers=False
        )
        if group.announce is not None:
            group.announce(store.port)
        distributed.init_process_group(backend, store=store, rank=group.rank, world_size=group.count, timeout=PATIENCE)
        try:
            yield
        except BaseException:
            # What Gloo holds open would keep the others waiting. NCCL may wait for them in turn: the end of the process is its end.
            if backend == "gloo":
                distributed.destroy_process_group()
            raise
        distributed.destroy_process_group()


@contextlib.contextmanager
def _saying_who_is_lost(group: Group) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Gloo raises plain errors that name its source files, or DistNetworkError and the like.
        if not isinstance(error, distributed.DistError) and "gloo/" not in str(error):
            raise
        raise GroupBroken(
            f"process {group.rank} of {group.count} lost the others: {str(error).splitlines()[0]}; see that all of them still run, that "
            "their machines reach each other, and what they wrote to their own stdout"
        ) from error


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
        # Running statistics are combined by `RunningStatistics`; broadcasting those of rank 0 would lose the others'. Looking for unused
        # parameters keeps gradients in the buckets that they start in: without it they move after the first step, sums over three or
        # more processes are then rounded in another order, and a run that was resumed would differ in its last bits.
        return DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)

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

    def of_first(self, value: Value) -> Value:
        """Return what the first process gives."""
        if self.count == 1:
            return value
        given = [value]
        distributed.broadcast_object_list(given)
        return given[0]

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


def rows_of_all(values: Tensor) -> Tensor:
    """Return the rows of all processes, rank 0's first; shares of a batch may differ in length."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    mine = torch.tensor([len(values)], device=values.device)
    counts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, mine)
    lengths = [int(count) for count in counts]
    padded = values.new_zeros((max(lengths), *values.shape[1:]))
    padded[: len(values)] = values
    everyone = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(everyone, padded)
    return torch.cat([rows[:length] for rows, length in zip(everyone, lengths, strict=True)])
