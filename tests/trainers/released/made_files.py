"""Weights files in the formats that people hand on, made from torchvision's networks: what each program writes, key by key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model

#: MoCo-CXR's queue and optimizer, and those of facebookresearch, by which the same layout is told apart.
QUEUES = {"moco_cxr": 24576, "facebook": 65536}


def network(arch: str, *, seed: int = 0) -> nn.Module:
    """Build torchvision's network with weights of a seed and BatchNorm statistics that fit them, so that features tell images apart."""
    torch.manual_seed(seed)
    module = get_model(arch, weights=None).train()
    norms = [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    momentum = [one.momentum for one in norms]
    for one in norms:
        one.momentum = None
    with torch.no_grad():
        module(torch.randn(4, 3, 64, 64))
    for one, before in zip(norms, momentum, strict=True):
        one.momentum = before
    return module.eval()


def head_of(arch: str) -> str:
    return "classifier" if arch.startswith(("densenet", "mnasnet")) else "fc"


def replace_head(module: nn.Module, arch: str, head: nn.Module) -> nn.Module:
    setattr(module, head_of(arch), head)
    return module


def width_of(arch: str) -> int:
    return {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "densenet121": 1024, "mnasnet1_0": 1280, "mnasnet0_5": 1280}[arch]


def features(arch: str, module: nn.Module, images: Tensor) -> Tensor:
    """Return the pooled features of torchvision's network (B, width)."""
    held = getattr(module, head_of(arch))
    replace_head(module, arch, nn.Identity())
    with torch.no_grad():
        found = module.eval()(images)
    replace_head(module, arch, held)
    return found


def projection(arch: str, *, mlp: bool) -> nn.Module:
    width = width_of(arch)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128)) if mlp else nn.Linear(width, 128)


def moco(
    path: Path, arch: str = "resnet18", *, mlp: bool = True, by: str = "moco_cxr", epoch: int = 20, lr: float = 1e-6, old: bool = False,
    seed: int = 0,
) -> tuple[nn.Module, dict[str, Tensor]]:  # fmt: skip
    """Write a pretraining checkpoint as main_moco.py does, under DistributedDataParallel; `old`: as torch 1.4 wrote it.

    Returns the query encoder and the file's state dict.
    """
    query = replace_head(network(arch, seed=seed), arch, projection(arch, mlp=mlp))
    key = replace_head(network(arch, seed=seed + 1), arch, projection(arch, mlp=mlp))
    state = {f"module.encoder_q.{name}": value for name, value in query.state_dict().items()}
    state |= {f"module.encoder_k.{name}": value for name, value in key.state_dict().items()}
    state |= {"module.queue": torch.zeros(1, QUEUES[by]).expand(128, -1), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    memory = (
        {"exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1), "step": 3} if by == "moco_cxr" else {"momentum_buffer": torch.zeros(1)}
    )
    optimizer = {"state": {0: memory}, "param_groups": [{"lr": lr, "weight_decay": 1e-4, "params": [0]}]}
    content = {"epoch": epoch, "arch": arch, "state_dict": state, "optimizer": optimizer}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return query, state


def finetuned(path: Path, arch: str, tasks: tuple[str, ...] = ("Edema", "Pleural Effusion")) -> nn.Module:
    """Write a fine-tuned checkpoint as MoCo-CXR's second stage does, under DataParallel, and return the network with its task head.

    ResNets come from a package that calls the ImageNet head last_linear, keep it unused, and have the task's head outside.
    """
    module, width = network(arch), width_of(arch)
    task = nn.Linear(width, len(tasks))
    if arch.startswith("resnet"):
        inner = {name.replace("fc.", "last_linear."): value for name, value in module.state_dict().items()}
        state = {**{f"module.model.{name}": value for name, value in inner.items()}, **_prefixed("module.fc.", task.state_dict())}
    else:
        state = _prefixed("module.model.", replace_head(module, arch, task).state_dict())
    names = {"resnet18": "ResNet18", "resnet50": "ResNet50", "densenet121": "DenseNet121", "mnasnet1_0": "MNASNet"}
    content: dict[str, Any] = {
        "ckpt_info": {"epoch": 3, "iteration": 8192, "chexpert-competition-AUROC": np.float64(0.81)},
        "model_name": names[arch],
        "tasks": list(tasks),
        "model_state": state,
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4, "params": []}]},
        "lr_scheduler": None,
    }
    torch.save(content, path)
    return replace_head(module, arch, task)


def _prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def backbone_state(arch: str, module: nn.Module) -> dict[str, Tensor]:
    """Return torchvision's state dict without the head."""
    return {name: value for name, value in module.state_dict().items() if not name.startswith(f"{head_of(arch)}.")}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Tell state dicts with the same keys and bits."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one)
