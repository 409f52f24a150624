"""Two processes that train one model together over gloo, as the tests of methods start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import distributed

ROOT = Path(__file__).parents[2]
SERVER = get_context("forkserver")


def member(rank: int, run: Callable[..., None], folder: Path, arguments: tuple[Any, ...]) -> None:
    """Be one of two processes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        run(folder, *arguments)
    finally:
        distributed.destroy_process_group()


def together(run: Callable[..., None], folder: Path, *arguments: Any) -> list[dict[str, Any]]:
    """Call `run(folder, *arguments)` in two processes, and return what each wrote to `rank<n>.pt`."""
    folder.mkdir(exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)
    SERVER.set_forkserver_preload(["tests.trainers.toy", "torch._dynamo", "trainers.evaluation", "pandas"])
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1"):
        members = [SERVER.Process(target=member, args=(rank, run, folder, arguments)) for rank in range(2)]
        for process in members:
            process.start()
    for process in members:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]
