"""Files of the methods that people start from, made as their programs write them: small networks under the published names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from trainers.parts import backbones

State = dict[str, Tensor]
#: A state dict, or a file with several.
Content = dict[str, Any]


def random(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every weight of a network with numbers of its own, so that no two tensors and no two networks are alike."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)
    return network


def small(arch: str, seed: int = 1, px: int | None = 64) -> nn.Module:
    return random(backbones.build(arch, 3, px), seed)


def small_beit(seed: int = 1, **others: Any) -> nn.Module:
    """Build a BEiT of two blocks, under the names of timm's `beit_base_patch16_224`."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    return random(timm.create_model("beit_base_patch16_224", num_classes=0, **{**sizes, **others}), seed)


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def layers(*sizes: tuple[str, int, int]) -> State:
    """Make linear layers of names and sizes."""
    return {f"{name}.{leaf}": torch.ones((outs, ins)[: 2 - (leaf == "bias")]) for name, ins, outs in sizes for leaf in ("weight", "bias")}


def old_swin(network: nn.Module, classes: int = 0) -> State:
    """Return a Swin under Microsoft's names, which are timm's before 0.9: merging at the end of stages, and two computed tables stored."""
    state: State = {}
    for name, value in network.state_dict().items():
        state[re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)] = value
    device = next(network.parameters()).device
    blocks: list[tuple[str, Any]] = list(network.named_modules())
    for name, block in blocks:
        if hasattr(block, "window_size") and hasattr(block, "shift_size"):
            area = block.window_size[0] * block.window_size[1]
            state[f"{name}.attn.relative_position_index"] = torch.zeros(area, area, dtype=torch.long, device=device)
            if any(block.shift_size):
                state[f"{name}.attn_mask"] = torch.zeros(4, area, area, device=device)
    if classes:
        width = backbones.width(network)
        state |= {"head.weight": torch.ones(classes, width, device=device), "head.bias": torch.ones(classes, device=device)}
    return state


def ark(network: nn.Module, seed: int = 0) -> State:
    """Return one network of Ark: an old Swin with its unused head, the projector and a head a data set."""
    width = backbones.width(network)
    heads = [(f"omni_heads.{at}", 24, classes) for at, classes in enumerate((14, 3, 1))]
    return {**old_swin(network, classes=10), **layers(("projector.0", width, 24), ("projector.2", 24, 24), *heads)}


def dino(network: nn.Module) -> State:
    width = backbones.width(network)
    last = {"head.last_layer.weight_g": torch.ones(7, 1), "head.last_layer.weight_v": torch.ones(7, 8)}
    return {**prefixed("backbone.", network.state_dict()), **layers(("head.mlp.0", width, 16), ("head.mlp.2", 16, 8)), **last}


def moco_v3(network: nn.Module, other: nn.Module, head: str) -> State:
    """Return MoCo v3 as DistributedDataParallel saves it; the last BatchNorm of each MLP has statistics alone."""
    width = backbones.width(network)
    mlp = {f"{head}.0.weight": torch.ones(16, width), f"{head}.3.weight": torch.ones(8, 16)}
    mlp |= {f"{head}.1.{leaf}": torch.ones(16) for leaf in ("weight", "bias", "running_mean", "running_var")}
    state = prefixed("module.base_encoder.", {**network.state_dict(), **mlp})
    state |= prefixed("module.momentum_encoder.", {**other.state_dict(), **mlp})
    return state | {"module.predictor.0.weight": torch.ones(16, 8), "module.predictor.4.running_var": torch.ones(8)}


def moby(network: nn.Module, other: nn.Module) -> State:
    def mlp(name: str) -> State:
        return layers((f"{name}.linear_hidden.1", 8, 8), (f"{name}.linear_hidden.2", 8, 8), (f"{name}.linear_out", 8, 8))

    state = prefixed("encoder.", old_swin(network)) | prefixed("encoder_k.", old_swin(other))
    state |= mlp("projector") | mlp("projector_k") | mlp("predictor")
    return state | {"queue1": torch.ones(8, 4), "queue2": torch.ones(8, 4), "queue_ptr": torch.zeros(1, dtype=torch.long)}


def simmim(network: nn.Module, state: State | None = None) -> State:
    width = backbones.width(network)
    inner = {**(old_swin(network) if state is None else state), "mask_token": torch.ones(1, 1, 8)}
    return prefixed("encoder.", inner) | {"decoder.0.weight": torch.ones(12, width, 1, 1), "decoder.0.bias": torch.ones(12)}


def beit_pretraining(network: nn.Module) -> State:
    """Return a BEiT that shares one table among its blocks and has its norm in front of pooling, as BEiT and SimMIM pretrain ViTs."""
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("fc_norm")}
    tables = [name for name in state if name.endswith("relative_position_bias_table")]
    shared = state[tables[0]]
    state = {name: value for name, value in state.items() if name not in tables}
    width = backbones.width(network)
    state |= {"rel_pos_bias.relative_position_bias_table": shared, "rel_pos_bias.relative_position_index": torch.zeros(17, 17)}
    return state | {"norm.weight": torch.ones(width), "norm.bias": torch.ones(width)}


def jax_vit(network: nn.Module, heads: int, classes: int = 7, *, hidden: bool = False) -> dict[str, Any]:
    """Return a ViT of timm as google-research/vision_transformer writes it: the files of ImageNet-21k (`hidden`), of AugReg and of SAM."""
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    width = state["cls_token"].shape[-1]
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": np.ones((width, classes), np.float32),
        "head/bias": np.ones(classes, np.float32),
    }
    if hidden:
        arrays |= {"pre_logits/kernel": np.ones((width, width), np.float32), "pre_logits/bias": np.ones(width, np.float32)}
    for at in range(sum(name.endswith("norm1.weight") for name in state)):
        ours, theirs = f"blocks.{at}.", f"Transformer/encoderblock_{at}/"
        for norm, number in (("norm1", 0), ("norm2", 2)):
            arrays[f"{theirs}LayerNorm_{number}/scale"] = state[f"{ours}{norm}.weight"]
            arrays[f"{theirs}LayerNorm_{number}/bias"] = state[f"{ours}{norm}.bias"]
        for layer, number in (("mlp.fc1", 0), ("mlp.fc2", 1)):
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/kernel"] = state[f"{ours}{layer}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{number}/bias"] = state[f"{ours}{layer}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights, biases = state[f"{ours}attn.qkv.weight"], state[f"{ours}attn.qkv.bias"]
        for which, weight, bias in zip(("query", "key", "value"), np.split(weights, 3), np.split(biases, 3), strict=True):
            arrays[f"{attention}{which}/kernel"] = weight.T.reshape(width, heads, -1)
            arrays[f"{attention}{which}/bias"] = bias.reshape(heads, -1)
        arrays[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
    return arrays


def mean_pooled(seed: int = 1, arch: str = "slim_vit") -> nn.Module:
    """Build a ViT as MAE fine-tunes one: the mean of its patches, and a norm behind it."""
    return random(backbones.build(arch, 3, 64, pool="avg"), seed)


def unichest(arch: str) -> tuple[nn.Module, dict[str, State]]:
    """Return torchvision's network and the entries of UniChest's checkpoint, in which the trunk stands twice."""
    trunk = random(get_model(arch, weights=None))
    image = nn.Module()
    if arch.startswith("densenet"):
        image.densenet, image.dense_features = trunk, trunk.features
        image.dense_l1, image.dense_l2 = nn.Linear(8, 8), nn.Linear(8, 8)
    else:
        image.resnet, image.res_features = trunk, nn.Sequential(*list(trunk.children())[:-2])
        image.res_l1, image.res_l2 = nn.Linear(8, 8), nn.Linear(8, 8)
    model = layers(("decoder.layers.0.linear1", 8, 8), ("mlp_head.0", 8, 1)) | {"logit_scale": torch.tensor(2.0)}
    text = layers(("bert_model.pooler.dense", 8, 8), ("mlp_embed.0", 8, 8))
    return trunk, {"model": model, "image_encoder": dict(image.state_dict()), "text_encoder": text}


def _training(**entries: Any) -> dict[str, Any]:
    """Return what training programs write beside weights."""
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1, "params": []}]}
    return {**entries, "optimizer": optimizer, "epoch": 7, "args": argparse.Namespace(lr=0.1)}


#: Name -> (the architecture, the network that the file is of, what is written, what is dropped: owner -> keys).
Case = tuple[str, nn.Module, Any, dict[str, int]]


def _timm_swin() -> Case:
    network = small("slim_swin")
    return "slim_swin", network, {**network.state_dict(), **layers(("head.fc", 192, 5))}, {"head": 2}


def _microsoft_swin() -> Case:
    network = small("slim_swin")
    return "slim_swin", network, {"model": old_swin(network, classes=5)}, {"head": 2, "tables that are computed": 6}


def _deit() -> Case:
    network = small("slim_vit")
    return "slim_vit", network, _training(model={**network.state_dict(), **layers(("head", 96, 5))}), {"head": 2}


def _deit_distilled() -> Case:
    network = small("deit_tiny_distilled_patch16_224", px=None)
    heads = layers(("head", 192, 5), ("head_dist", 192, 5))
    return "deit_tiny_distilled_patch16_224", network, {"model": {**network.state_dict(), **heads}}, {"head": 2, "second head": 2}


def _dino() -> Case:
    network, other = small("slim_vit"), small("slim_vit", seed=2)
    content = _training(student=prefixed("module.", dino(other)), teacher=dino(network), dino_loss={"center": torch.ones(1, 7)})
    return "slim_vit", network, content, {"student": len(other.state_dict()), "projection heads": 12}


def _dino_backbone() -> Case:
    network = small("slim_vit")
    return "slim_vit", network, dict(network.state_dict()), {}


def _moco_v3_vit() -> Case:
    network, other = small("slim_vit"), small("slim_vit", seed=2)
    content = _training(state_dict=moco_v3(network, other, "head"), arch="vit_base")
    return "slim_vit", network, content, {"momentum encoder": len(other.state_dict()) + 6, "predictor": 2, "projection head": 6}


def _moco_v3_resnet() -> Case:
    network, other = small("slim"), small("slim", seed=2)
    content = _training(state_dict=moco_v3(network, other, "fc"), arch="resnet50")
    return "slim", network, content, {"momentum encoder": len(other.state_dict()) + 6, "predictor": 2, "projection head": 6}


def _moby() -> Case:
    network, other = small("slim_swin"), small("slim_swin", seed=2)
    dropped = {"key encoder": len(old_swin(other)), "projectors": 12, "predictor": 6, "queue": 3, "tables that are computed": 6}
    return "slim_swin", network, _training(model=moby(network, other)), dropped


def _mae() -> Case:
    network = small("slim_vit")
    decoder = layers(("decoder_embed", 96, 8), ("decoder_blocks.0.attn.qkv", 8, 24), ("decoder_norm", 1, 8), ("decoder_pred", 8, 12))
    tokens = {"mask_token": torch.ones(1, 1, 8), "decoder_pos_embed": torch.ones(1, 65, 8)}
    return "slim_vit", network, _training(model={**network.state_dict(), **decoder, **tokens}), {"decoder": 9, "mask token": 1}


def _simmim() -> Case:
    network = small("slim_swin")
    return "slim_swin", network, _training(model=simmim(network)), {"decoder": 2, "mask token": 1, "tables that are computed": 6}


def _ark() -> Case:
    network, other = small("slim_swin"), small("slim_swin", seed=2)
    content = _training(teacher=prefixed("module.", ark(network)), state_dict=prefixed("module.", ark(other)), lossMIN=[0.1, 0.2])
    dropped = {"student": len(ark(other)), "projector": 4, "task heads": 6, "unused ImageNet head": 2, "tables that are computed": 6}
    return "slim_swin", network, content, dropped


def _ark_teacher() -> Case:
    network = small("slim_swin")
    dropped = {"projector": 4, "task heads": 6, "unused ImageNet head": 2, "tables that are computed": 6}
    return "slim_swin", network, ark(network), dropped


def _sam() -> Case:
    """timm's file of a ViT that SAM trained: all of the network, and its head of ImageNet."""
    network = small("slim_vit")
    return "slim_vit", network, {**network.state_dict(), **layers(("head", 96, 1000))}, {"head": 2}


def _imagenet_21k() -> Case:
    """A ViT of ImageNet-21k in timm before 0.8: a layer in front of its head."""
    network = small("slim_vit")
    content = {**network.state_dict(), **layers(("pre_logits.fc", 96, 96), ("head", 96, 7))}
    return "slim_vit", network, content, {"head": 2, "layer in front of the head": 2}


#: Every format of a transformer or a ResNet that a network of ours can be written in.
CASES: Mapping[str, Callable[[], Case]] = {
    "timm_swin": _timm_swin,
    "microsoft_swin": _microsoft_swin,
    "sam": _sam,
    "imagenet_21k": _imagenet_21k,
    "deit": _deit,
    "deit_distilled": _deit_distilled,
    "dino": _dino,
    "dino_backbone": _dino_backbone,
    "moco_v3_vit": _moco_v3_vit,
    "moco_v3_resnet": _moco_v3_resnet,
    "moby": _moby,
    "mae": _mae,
    "simmim": _simmim,
    "ark": _ark,
    "ark_teacher": _ark_teacher,
}


def write(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def state_of(content: Content) -> Content:
    """Return the state dict of what a case writes, or the whole where several are in it."""
    entry = next((name for name in ("model", "state_dict") if name in content and "teacher" not in content), None)
    return content[entry] if entry else content
