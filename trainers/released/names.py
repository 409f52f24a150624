"""Names of the same layers in torchvision, timm, older timm and efficientnet_pytorch. ResNets have one set of names in all."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

from torch import nn

from trainers.released.files import State

#: Architectures that timm and torchvision both have: timm's name -> torchvision's.
TORCHVISION: Mapping[str, str] = {
    **{
        name: name
        for name in (
            "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2", "resnext50_32x4d",
            "resnext101_32x8d", "resnext101_64x4d", "densenet121", "densenet161", "densenet169", "densenet201",
        )
    },
    "mnasnet_050": "mnasnet0_5",
    "mnasnet_075": "mnasnet0_75",
    "mnasnet_100": "mnasnet1_0",
}  # fmt: skip
#: torchvision's files from before 2018 have `norm.1` for `norm1` in the layers of DenseNets, and its ImageNet weights still do.
_DENSE_DOT = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")

#: MNASNet: torchvision numbers one flat list of layers, the activations counted; blocks stand at 8 to 13.
_MNASNET_OUTER = {
    "0": "conv_stem", "1": "bn1", "3": "blocks.0.0.conv_dw", "4": "blocks.0.0.bn1", "6": "blocks.0.0.conv_pw", "7": "blocks.0.0.bn2",
    "14": "conv_head", "15": "bn2",
}  # fmt: skip
_MNASNET_INNER = {"0": "conv_pw", "1": "bn1", "3": "conv_dw", "4": "bn2", "6": "conv_pwl", "7": "bn3"}
_MNASNET_BLOCK = re.compile(r"layers\.(8|9|10|11|12|13)\.(\d+)\.layers\.(\d+)\.(.+)")
_MNASNET_LAYER = re.compile(r"layers\.(\d+)\.([^.]+)")

#: Swin in Microsoft's files and in timm before 0.9: merging stands at the end of a stage, and today at the beginning of the next.
_SWIN_END = "layers.0.downsample.reduction.weight"
_SWIN_MERGING = re.compile(r"layers\.(\d+)\.downsample\.")

_LITE0_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_LITE0_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE0_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_arch(name: str) -> str:
    """Return timm's name of an architecture that torchvision or MoCo-CXR's classes name; a tag, which names weights, is left off."""
    name = name.split(".")[0]
    lower = name.lower()
    by_torchvision = {theirs: ours for ours, theirs in TORCHVISION.items()}
    return {"mnasnet": "mnasnet_100", **by_torchvision}.get(lower, lower if lower in TORCHVISION else name)


def to_timm(state: State, targets: Iterable[str]) -> dict[str, str]:
    """Return timm's name of every key of a backbone; a key that no rule knows keeps its name, and a strict load will name it.

    `targets` are the keys of timm's network, from whose blocks those of efficientnet_pytorch are counted.
    """
    if "_conv_stem.weight" in state:
        blocks = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in targets if name.startswith("blocks.")))
        return {name: _of_lite0(name, blocks) for name in state}
    if is_torchvision_mnasnet(state):
        return {name: _of_mnasnet(name) for name in state}
    if _SWIN_END in state:
        return {name: _SWIN_MERGING.sub(lambda found: f"layers.{int(found[1]) + 1}.downsample.", name) for name in state}
    return {name: _DENSE_DOT.sub(r"\1\2", name) for name in state}


def is_torchvision_mnasnet(names: Iterable[str]) -> bool:
    """Tell torchvision's names of an MNASNet."""
    return {"layers.0.weight", "layers.8.0.layers.0.weight"} <= set(names)


def to_torchvision(names: Iterable[str], arch: str) -> dict[str, str]:
    """Return torchvision's name of every key of timm's backbone `arch`, which both have."""
    if not arch.startswith("mnasnet_"):
        return {name: name for name in names}
    outer = {there: number for number, there in _MNASNET_OUTER.items()}
    inner = {there: number for number, there in _MNASNET_INNER.items()}
    renamed: dict[str, str] = {}
    for name in names:
        layer, leaf = name.rsplit(".", 1)
        if layer in outer:
            renamed[name] = f"layers.{outer[layer]}.{leaf}"
        else:
            _, stage, block, short = layer.split(".")
            renamed[name] = f"layers.{int(stage) + 7}.{block}.layers.{inner[short]}.{leaf}"
    return renamed


def filtered_by_timm(state: State, backbone: nn.Module) -> State:
    """Let timm's own filter of the architecture translate files of its makers (Swin's and ViT's older names, position tables)."""
    translate = getattr(sys.modules.get(type(backbone).__module__), "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        return dict(translate(dict(state), backbone))
    # A filter trips over files of other architectures in its own ways; the strict load that follows names their keys.
    except (KeyError, AttributeError, RuntimeError, IndexError, TypeError, ValueError):
        return state


def _of_mnasnet(name: str) -> str:
    block = _MNASNET_BLOCK.fullmatch(name)
    if block is not None and block[3] in _MNASNET_INNER:
        return f"blocks.{int(block[1]) - 7}.{block[2]}.{_MNASNET_INNER[block[3]]}.{block[4]}"
    layer = _MNASNET_LAYER.fullmatch(name)
    return f"{_MNASNET_OUTER[layer[1]]}.{layer[2]}" if layer is not None and layer[1] in _MNASNET_OUTER else name


def _of_lite0(name: str, blocks: list[str]) -> str:
    """Translate one key of the `efficientnet_pytorch` package into timm's; the first block is the one that does not expand."""
    head, _, rest = name.partition(".")
    if head != "_blocks":
        return f"{_LITE0_OUTER.get(head, head)}.{rest}"
    number, layer, leaf = rest.split(".", 2)
    if int(number) >= len(blocks):
        return name
    names = _LITE0_FIRST if int(number) == 0 else _LITE0_BLOCK
    return f"{blocks[int(number)]}.{names.get(layer, layer)}.{leaf}"
