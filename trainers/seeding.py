"""The state of a process that results depend on: seeds, threads, number formats, determinism, the allocator."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from trainers.data.workers import set_workers

#: mallopt(3): M_MMAP_MAX 0 and a trim threshold and top pad so large that freed blocks stay with the process. Without it each step maps
#: and unmaps its activations anew, and the page faults cost 10 to 15 % of a convolutional step on the CPU.
_MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-2, 256 << 20))


def prepare(seed: int, threads: int, device: torch.device) -> dict[str, Any]:
    """Put this process into the state that a job starts from, whatever ran in it before, and return what was set.

    Call it before the first tensor of a job. The number of threads is part of the result on the CPU: sums are split by it.
    """
    allocator = keep_freed_memory()
    torch.set_num_threads(threads)
    # NumPy's and SciPy's BLAS: it reads its own variables once, when it is loaded, and who loads it first is not up to a job.
    threadpool_limits(threads, user_api="blas")
    with contextlib.suppress(RuntimeError):  # It can be set once, before the first parallel work of the process.
        torch.set_num_interop_threads(1)
    cv2.setNumThreads(0)
    set_workers(threads)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_float32_matmul_precision("highest")
    # Some CUDA kernels have no deterministic form; there it warns, and resume is exact up to those.
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    seed_all(seed)
    return {
        "seed": seed,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "allocator": allocator,
    }


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (CUDA included)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the states of the global generators as plain values and tensors, for a file that loads without pickled code."""
    version, inner, spare = random.getstate()
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": [version, list(inner), spare],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what `random_state` returned."""
    version, inner, spare = state["python"]
    random.setstate((version, tuple(inner), spare))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed memory (once a process); False where the C library is another."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (only glibc has it, and an attribute that is not there raises)
    except (OSError, AttributeError):
        return False
    accepted = [library.mallopt(option, value) == 1 for option, value in _MALLOPT]
    return all(accepted)
