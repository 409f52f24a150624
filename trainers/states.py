"""What is written: resume files, from which a run goes on bit for bit, and weights, which are handed on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainers.api import LOOP_VERSION, Overlaps, Predicted, Trainer, Validated, WriteFile
from trainers.errors import Diverged, Error
from trainers.parts.overlaps import overlap_table
from trainers.processes import Processes
from trainers.seeding import random_state, set_random_state

_LOG = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a run is: optimizer steps done, epochs closed, and sums over the epoch that is open."""

    step: int = 0
    epoch: int = 0
    #: Images a forward pass on one process: the config's, halved when memory ran out; 0 is the whole share.
    micro_batch: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counted: int = 0
    #: The best of the metric that a run stops on, and how many looks at validation ago that was.
    best: float | None = None
    waited: int = 0


def circumstances(precision: str, device: torch.device, processes: int) -> dict[str, Any]:
    """Return what a run cannot go on with another value of and stay bit for bit the same."""
    return {
        "loop version": LOOP_VERSION,
        # Before the threads of a process: where both differ, the threads do because the processes do.
        "processes": processes,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "device": device.type,
    }


def collect(
    trainer: Trainer, optimizer: torch.optim.Optimizer, progress: Progress, made_with: Mapping[str, Any], processes: Processes
) -> dict[str, Any]:
    """Return a run's whole state as tensors and plain values. Raises Diverged when a weight is not finite, TypeError on other values."""
    refuse_nonfinite(trainer.module, progress.step)
    state = {
        "made_with": dict(made_with),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "module": trainer.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "trainer": trainer.state_dict(),
        "progress": {name: getattr(progress, name) for name in Progress.__slots__},
        "random": processes.gather(random_state()),
    }
    _refuse_objects(state["trainer"], "state_dict()")
    return state


def copied(value: Any) -> Any:
    """Return a state whose tensors are copies on the CPU, as a file's would be, out of the reach of further steps."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value)
    return value


def read_state(path: Path, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Read a resume file. Raises Error when it was written under other circumstances, with which the result would be another."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, here in made_with.items():
        there = state["made_with"].get(name)
        if there != here:
            raise Error(
                f"{path}: written with {name} {there}, and this run has {name} {here}, which would give another result; "
                f"resume with {name} {there}, or delete {path.parent} to start this job again"
            )
    here = torch.backends.cpu.get_cpu_capability()
    if state["cpu"] != here:
        # Not refused: a preempted job takes the node that it gets.
        _LOG.warning("%s: written on a CPU with %s, and this one has %s: the last bits may differ from here on", path, state["cpu"], here)
    return state


def restore(state: Mapping[str, Any], trainer: Trainer, optimizer: torch.optim.Optimizer, progress: Progress, processes: Processes) -> None:
    """Put a run back to a state."""
    trainer.module.load_state_dict(state["module"], strict=True)
    optimizer.load_state_dict(copied(state["optimizer"]))
    trainer.load_state_dict(copied(state["trainer"]))
    for name, value in state["progress"].items():
        setattr(progress, name, copied(value))
    set_random_state(state["random"][processes.rank])


def refuse_nonfinite(module: nn.Module, step: int) -> None:
    """Raise Diverged when a weight or buffer is not finite: no file of a run ever holds such a value."""
    floats = [(name, value) for name, value in module.state_dict().items() if isinstance(value, Tensor) and value.is_floating_point()]
    if not floats or bool(torch.stack([value.isfinite().all() for _, value in floats]).all()):
        return
    name = next(name for name, value in floats if not bool(value.isfinite().all()))
    raise Diverged(f"step {step}: '{name}' holds values that are not finite; lower lr, set grad_clip, or set precision: fp32")


def write_weights(module: nn.Module, path: Path) -> None:
    """Write a module's state dict as safetensors: on the CPU, contiguous, as stored; equal weights give equal bytes.

    Tensors that share memory (tied weights) are written once each, so that a strict load finds every key.
    """
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor
    save_file(tensors, path)


def score_files(scores: Validated | None) -> dict[str, WriteFile]:
    """Return what writes predictions, by suffix: `val.parquet`, or of each source by itself `<source>.val.parquet`."""
    if scores is None:
        return {}
    if isinstance(scores, Mapping):
        return {f"{name.replace('/', '.')}.val.parquet": partial(write_scores, one) for name, one in scores.items()}
    return {"val.parquet": partial(write_scores, scores)}


def write_scores(scores: Predicted, path: Path) -> None:
    """Write predictions as parquet: image, patient, study, view, and a float32 column `logit/<label>` a label; of masks, their counts."""
    if isinstance(scores, Overlaps):
        pq.write_table(overlap_table(scores), path, compression="zstd")
        return
    rows = scores.rows
    columns: dict[str, Any] = {
        "image": pa.array([str(name) for name in rows.images]),
        "patient": pa.array([str(name) for name in rows.patients]),
        "study": pa.array([str(name) for name in rows.studies]),
        "view": pa.array([str(name) for name in rows.views]),
    }
    for index, label in enumerate(scores.labels):
        columns[f"logit/{label}"] = pa.array(np.ascontiguousarray(scores.logits[:, index], dtype=np.float32))
    pq.write_table(pa.table(columns), path, compression="zstd")


def _refuse_objects(value: Any, where: str) -> None:
    """Raise TypeError on a value that `torch.load(weights_only=True)` would refuse at the worst moment, when the run resumes."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_objects(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _refuse_objects(item, f"{where}[{index}]")
    elif not (value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str, bytes)):
        raise TypeError(f"{where} of a method is a {type(value).__name__}: resume files hold tensors and plain values only")
