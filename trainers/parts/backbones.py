"""Feature extractors: any timm network, and a small ResNet, ViT and Swin that learn on one core."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.layers.drop import DropPath
from torch import nn

from trainers.api import Setup
from trainers.errors import Error, WeightsError
from trainers.weights import KeyReport, load_backbone, load_matching
from trainers.weights_sources import STAND_IN, STAND_IN_SEED, named_part, resolve_init

#: A BasicBlock ResNet with one block a stage, 0.70 million parameters.
SLIM = "slim"
#: Four transformer blocks on patches of 8 pixels, 0.46 million parameters at 64 pixels.
SLIM_VIT = "slim_vit"
#: Four stages of windows of 4 on patches of 2 pixels, 0.80 million parameters.
SLIM_SWIN = "slim_swin"
#: The size that a network of ours has where none is asked for.
_OWN_PX = 64
_SIZED: Mapping[str, Any] = {"img_size": _OWN_PX, "pretrained_cfg_overlay": {"input_size": (3, _OWN_PX, _OWN_PX)}}
#: This project's networks: timm's that they are made of, and with what.
OWN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    SLIM: ("resnet18", {"layers": (1, 1, 1, 1), "channels": (24, 48, 96, 192)}),
    SLIM_VIT: ("vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3, **_SIZED}),
    SLIM_SWIN: (
        "swin_tiny_patch4_window7_224",
        {"patch_size": 2, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "window_size": 4, **_SIZED},
    ),
}


#: How the last features become one vector: as a network does by itself, or the mean of a ViT's patches with a norm behind it.
POOL_ARCH, POOL_AVG = "arch", "avg"
#: The norm behind the mean, which ViTs of that kind have in place of the one in front.
NORM_BEHIND = "fc_norm"


def build(
    arch: str,
    channels: int,
    px: int | None,
    *,
    window: int | None = None,
    drop_path: float = 0.0,
    pool: str = POOL_ARCH,
    seed: int | None = None,
) -> nn.Module:
    """Build a network that maps (B, channels, px, px) to pooled features (B, `width(network)`), with fresh weights.

    `px` sets the size of networks that have a fixed one (ViT, Swin), `window` the side of a Swin's windows in tokens; `seed` makes the
    weights a function of it alone. `drop_path` 0 is none, whatever timm does by itself. `pool` avg is that of MAE's fine-tuning (He et al.
    2022, `--global_pool`): the mean of the patches, and a norm behind it in place of the one in front. Raises Error for an architecture
    that timm does not know, or one without windows, stochastic depth or such a norm where `window`, `drop_path` or `pool` asks for it.
    """
    name, arguments = OWN.get(arch, (arch, {}))
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*OWN, *timm.list_models()], n=1)
        raise Error(f"config.arch: timm knows no '{arch}'" + (f"; did you mean '{near[0]}'?" if near else "; see timm.list_models()"))
    arguments = dict(arguments)
    described = timm.get_pretrained_cfg(name)
    if px is not None and described is not None and described.fixed_input_size:
        arguments["img_size"] = px
    if window is not None:
        if not name.startswith("swin"):
            raise Error(f"config.window: '{arch}' has no windows of attention: leave it out, or set it to null")
        arguments["window_size"] = window
    if drop_path > 0:
        arguments["drop_path_rate"] = drop_path
    if pool == POOL_AVG:
        arguments["global_pool"] = "avg"
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        network = _made(arch, name, channels, arguments)
    if pool == POOL_AVG and f"{NORM_BEHIND}.weight" not in network.state_dict():
        raise _no_mean(arch)
    for part in network.modules():
        # timm gives some networks a depth of their own, a Swin 0.1: where none is asked for there is none.
        if drop_path == 0 and isinstance(part, DropPath):
            part.drop_prob = 0.0
    return network


def _made(arch: str, name: str, channels: int, arguments: Mapping[str, Any]) -> nn.Module:
    """Let timm make a network. Raises Error when it does not take one of the arguments."""
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **arguments)
    # A network that has its two tokens to read says so by an assertion.
    except (TypeError, AssertionError):
        if "global_pool" in arguments:
            raise _no_mean(arch) from None
        if "drop_path_rate" in arguments:
            raise Error(f"config.drop_path: '{arch}' has no stochastic depth; set it to 0") from None
        raise


def _no_mean(arch: str) -> Error:
    return Error(f"config.pool: '{arch}' has no norm behind a mean of patches, as most ViTs can have: set pool: arch")


def width(backbone: nn.Module) -> int:
    """Return the number of features that a backbone hands on."""
    hidden = getattr(backbone, "head_hidden_size", None)
    return int(hidden if isinstance(hidden, int) else getattr(backbone, "num_features"))  # noqa: B009


def start(backbone: nn.Module, setup: Setup) -> KeyReport | None:
    """Give a backbone the start of its job: the parent's weights, else the file of the job, else what `config.init` names.

    Reads `arch`, `channels` and `init` of the config. Returns None for a random start. Raises WeightsError when weights do not fit.
    """
    config, parent = setup.config, setup.parents.get("init")
    if parent is None and config.init == STAND_IN:
        window, pool = getattr(config, "window", None), getattr(config, "pool", POOL_ARCH)
        fixed = build(config.arch, config.channels, config.px, window=window, pool=pool, seed=STAND_IN_SEED)
        return load_matching(backbone, fixed.state_dict(), what="the stand-in weights")
    if parent is None:
        source = resolve_init(config.arch, config.init, setup.weights)
        return None if source is None else load_backbone(backbone, source, config.arch, named_part(config.init)[1])
    if len(parent.files) != 1:
        raise WeightsError(f"the parent hands on {len(parent.files)} checkpoints, and a start is one: set pick.checkpoints to best")
    for name in ("arch", "channels"):
        theirs, ours = parent.config.get(name), getattr(config, name)
        if theirs is not None and theirs != ours:
            raise WeightsError(f"config.{name}: the {parent.trainer} parent has {theirs}, this job {ours}: set {name}: {theirs}")
    return load_backbone(backbone, parent.files[0], config.arch)
