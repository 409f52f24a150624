"""Optimizers with their parameter groups: what decays, and which layers move slower."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import nn

OptimizerName: TypeAlias = Literal["adam", "adamw", "sgd"]


def build(
    backbone: nn.Module,
    head: nn.Module,
    *,
    name: OptimizerName,
    lr: float,
    weight_decay: float,
    decay_norms: bool = False,
    head_lr_factor: float = 1.0,
    layer_decay: float = 1.0,
    momentum: float = 0.9,
    nesterov: bool = False,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """Make an optimizer over the trainable parameters of a backbone and its head.

    `adam` couples its weight decay (L2), `adamw` does not. Normalisation layers and biases decay only with `decay_norms`.
    `fused` is for methods whose every parameter has a gradient from the first step on: fused sgd keeps no momentum for one that gets its
    first gradient later.
    `head_lr_factor` multiplies the head's rate; `layer_decay` multiplies the rate once more for every layer below the head.
    `nesterov` is for sgd.
    """
    groups = [
        *_backbone_groups(backbone, lr, weight_decay, decay_norms, layer_decay),
        *_groups(head, lr * head_lr_factor, weight_decay, decay_norms),
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(groups, lr=lr, fused=fused)


def _groups(module: nn.Module, lr: float, weight_decay: float, decay_norms: bool) -> list[dict[str, Any]]:
    trainable = [p for p in module.parameters() if p.requires_grad]
    if decay_norms:
        return [{"params": trainable, "lr": lr, "weight_decay": weight_decay}]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
    ]


def _backbone_groups(module: nn.Module, lr: float, weight_decay: float, decay_norms: bool, layer_decay: float) -> list[dict[str, Any]]:
    if layer_decay == 1.0 or not any(p.requires_grad for p in module.parameters()):
        return _groups(module, lr, weight_decay, decay_norms)
    made = param_groups_layer_decay(module, weight_decay=weight_decay, layer_decay=layer_decay)
    return [
        {
            "params": group["params"],
            # timm numbers the stem 0 and the last layer of the backbone n - 1; the head, which is not in it, would be n.
            "lr": lr * group["lr_scale"] * layer_decay,
            "weight_decay": weight_decay if decay_norms else group["weight_decay"],
        }
        for group in made
    ]
