"""Which architecture a state dict is of, told from its names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache

import timm
import torch

from trainers.errors import Error
from trainers.parts import backbones
from trainers.released import fitting, names, positions
from trainers.released.files import State
from trainers.released.formats import Parts

Shapes = Mapping[str, tuple[int, ...]]

_MNASNETS = ("mnasnet_100", "mnasnet_050", "mnasnet_075")
#: A key that every member of a family has in timm, and the members that are looked at.
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "layer1.0.conv1.weight": (
        "resnet18", "resnet50", "slim", "resnet34", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d",
        "resnext101_32x8d", "resnext101_64x4d",
    ),
    "features.denseblock1.denselayer1.conv1.weight": ("densenet121", "densenet169", "densenet201", "densenet161"),
    "blocks.0.0.conv_dw.weight": (
        *_MNASNETS, "tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv2_100", "mobilenetv3_small_050", "mobilenetv3_small_100",
        "mobilenetv3_large_100",
    ),
    "dist_token": ("deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224", "deit_base_distilled_patch16_224"),
    "blocks.0.attn.q_bias": ("beit_base_patch16_224", "beit_large_patch16_224"),
    "blocks.0.attn.qkv.bias": (
        "slim_vit", "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224",
        "vit_small_patch8_224", "vit_base_patch8_224", "vit_small_patch32_224", "vit_base_patch32_224", "vit_large_patch32_224",
    ),
    "layers.0.blocks.0.attn.qkv.weight": (
        "slim_swin", "swin_tiny_patch4_window7_224", "swin_small_patch4_window7_224", "swin_base_patch4_window7_224",
        "swin_large_patch4_window7_224",
    ),
    "stages.0.blocks.0.conv_dw.weight": ("convnext_tiny", "convnext_small", "convnext_base"),
}  # fmt: skip

#: What first convolutions are called. Not the first tensor of a file: safetensors keep no order.
_STEMS = (
    "conv1.weight", "conv1.0.weight", "features.conv0.weight", "layers.0.weight", "conv_stem.weight", "_conv_stem.weight",
    "patch_embed.proj.weight", "stem.0.weight",
)  # fmt: skip


@cache
def shapes_of(arch: str, pool: str = backbones.POOL_ARCH) -> Shapes:
    """Return the names and shapes of a backbone's weights, without its counters; nothing is allocated."""
    with torch.device("meta"):
        state = backbones.build(arch, 3, None, pool=pool).state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not is_counter(name)}


def is_counter(name: str) -> bool:
    """Tell BatchNorm's counters, which files older than PyTorch 0.4.1 lack and no forward pass reads."""
    return name.endswith("num_batches_tracked")


def recognise(parts: Parts, stated: str = "") -> tuple[str, ...]:
    """Return the architectures that a file's backbone is of: none, one, or several of the same shapes; `stated` is tried first."""
    candidates = [stated] if stated else []
    if "_conv_stem.weight" in parts.backbone:
        candidates.append("tf_efficientnet_lite0")
    else:
        plain = set(names.to_timm(parts.backbone, ()).values())
        candidates += [arch for key, members in _FAMILIES.items() if key in plain for arch in members]
    found: list[str] = []
    for arch in dict.fromkeys(candidates):
        if _has_the_shapes_of(parts, arch):
            found.append(arch)
            if arch == stated:
                break
    return tuple(found)


def pool_of(parts: Parts, arch: str) -> str:
    """Return how a file's network of an architecture pools: by the mean of its patches where it has the norm behind that and no other."""
    try:
        own = shapes_of(arch)
    except Error:
        return backbones.POOL_ARCH
    behind = f"{backbones.NORM_BEHIND}.weight"
    means = behind in parts.backbone and behind not in own and "norm.weight" not in parts.backbone
    return backbones.POOL_AVG if means else backbones.POOL_ARCH


def _has_the_shapes_of(parts: Parts, arch: str) -> bool:
    try:
        own = shapes_of(arch, pool_of(parts, arch))
    except Error:
        return False
    found, _ = fitting.named(parts, own, heads_in_timm(arch))
    theirs = {name: tuple(value.shape) for name, value in found.state.items() if not is_counter(name)}
    left_as_built = [name for name in own if any(fnmatchcase(name, pattern) for pattern in found.allowed_missing)]
    wanted = own.keys() - left_as_built
    return theirs.keys() == wanted and all(_alike(name, theirs[name], own[name]) for name in wanted)


def heads_in_timm(arch: str) -> tuple[str, ...]:
    """Return what timm calls the classifiers of an architecture."""
    described = timm.get_pretrained_cfg(backbones.OWN.get(arch, (arch, {}))[0])
    named = None if described is None else described.classifier
    return (named,) if isinstance(named, str) else tuple(named or ())


def _alike(name: str, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Tell equal shapes; a stem may have any number of input channels, and positions any grid or window."""
    if positions.is_position(name):
        return len(one) == len(other) and one[-1] == other[-1]
    return one == other or (len(one) == len(other) == 4 and other[1] == 3 and one[:1] == other[:1] and one[2:] == other[2:])


def stem_of(state: State) -> tuple[str, int]:
    """Return the name and the input channels of a backbone's first convolution; ("", 0) when it is none that is known."""
    found = (name for name in _STEMS if name in state and state[name].dim() == 4)
    return next(((name, int(state[name].shape[1])) for name in found), ("", 0))


def known(arch: str) -> bool:
    """Tell whether a network of that name can be built."""
    return arch in backbones.OWN or timm.is_model(arch)
