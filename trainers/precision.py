"""Number formats of training: weights, optimizer and reductions in float32; bf16 runs the forward pass in bfloat16 where it is safe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch

#: Name -> dtype of autocast; None runs everything in float32. bfloat16 has float32's range, so there is no loss scaling.
PRECISIONS: Mapping[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context that forward passes of a precision run in, on the CPU and on CUDA alike."""
    dtype = PRECISIONS[precision]
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
