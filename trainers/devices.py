"""Where a model and its batches live, and in which memory format; how a batch is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn


class Drawn:
    """A part of a batch that is not made yet: samples that some process takes are made when it takes them, by that process alone."""

    ndim = 1

    def __init__(self, count: int, make: Callable[[slice], Tensor]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice) -> Tensor:
        return self._make(part)


Leaf: TypeAlias = Tensor | np.ndarray
#: What a batch holds before it is cut: tensors, arrays, and what is not made yet.
Uncut: TypeAlias = Leaf | Drawn

#: The longest sequence whose attention may be written out: a matrix of its square a head is kept for the backward pass.
_WRITTEN_OUT = 640


def place(module: nn.Module, device: torch.device) -> bool:
    """Move a module to a device, a convolutional net in channels_last; return whether it is one.

    One convolution is a patch embedding, two or more a convolutional net. Parameters stay the same objects. On a CPU, attention chooses
    its kernel by precision.
    """
    convolutional = sum(isinstance(part, nn.Conv2d) for part in module.modules()) > 1
    module.to(device)
    if device.type == "cpu":
        for part in module.modules():
            if getattr(part, "fused_attn", False) is True and _choose_attention not in part._forward_pre_hooks.values():
                part.register_forward_pre_hook(_choose_attention)
    if convolutional:
        # `Module.to(memory_format=...)` has no overload that pyright accepts beside a device.
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return convolutional


def _choose_attention(part: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Let timm's attention write out its products in bfloat16 on a CPU, where the fused kernel is slower and its backward pass much so."""
    short = inputs[0].dim() == 3 and inputs[0].shape[1] <= _WRITTEN_OUT
    part.fused_attn = not (short and torch.is_autocast_enabled("cpu"))  # type: ignore[assignment]


def to_device(batch: Any, device: torch.device, channels_last: bool = False) -> Any:
    """Return a batch (tensors and arrays in dicts, lists, tuples) as tensors on a device; 4-D ones in channels_last when asked.

    The memory format matters as much as the device: an NCHW input makes a channels_last model run in NCHW. Arrays of text stay.
    """

    def move(value: Leaf) -> Leaf:
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biuf":
                return value
            value = torch.from_numpy(value)
        memory = torch.channels_last if channels_last and value.dim() == 4 else torch.preserve_format
        return value.to(device, non_blocking=True, memory_format=memory)

    return _map(batch, move)


def is_cuda_oom(error: BaseException) -> bool:
    """Tell whether an exception says that the GPU's memory is too small."""
    return isinstance(error, torch.OutOfMemoryError) or "CUDA out of memory" in str(error)


def pinned(batch: Any) -> Any:
    """Return a batch of tensors in page-locked memory, from which a GPU copies while it works; arrays and what is not made yet stay."""
    return _map(batch, lambda value: value.pin_memory() if isinstance(value, Tensor) and value.device.type == "cpu" else value)


def size_of(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first tensor or array. Raises TypeError when it has none."""
    for value in _leaves(batch):
        if value.ndim > 0:
            return len(value)
    raise TypeError(f"a batch holds no tensor or array with a first dimension: {type(batch).__name__}")


def part_of(batch: Any, start: int, stop: int) -> Any:
    """Return samples start:stop of a batch: every tensor and array as long as the batch is cut, all else stays."""
    size = size_of(batch)
    return _map(batch, lambda value: value[start:stop] if value.ndim > 0 and len(value) == size else value)


def made(batch: Any) -> Any:
    """Return a whole batch with all that was not made yet."""
    return _map(batch, lambda value: value[0 : len(value)] if isinstance(value, Drawn) else value)


def _leaves(batch: Any) -> list[Uncut]:
    if isinstance(batch, (Tensor, np.ndarray, Drawn)):
        return [batch]
    if isinstance(batch, Mapping):
        return [leaf for value in batch.values() for leaf in _leaves(value)]
    if isinstance(batch, (list, tuple)):
        return [leaf for value in batch for leaf in _leaves(value)]
    return []


def _map(batch: Any, change: Callable[[Any], Leaf]) -> Any:
    if isinstance(batch, (Tensor, np.ndarray, Drawn)):
        return change(batch)
    if isinstance(batch, Mapping):
        return {key: _map(value, change) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_map(value, change) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_map(value, change) for value in batch)
    return batch
