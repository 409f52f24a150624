"""ViTs that JAX code writes (`.npz` of the papers on ViT, on augmentation and regularisation, and on SAM) under timm's names.

Source of the names: the public code of google-research/vision_transformer. One layer is stored in three (query, key and value), with
an axis for the heads, and matrices map rows to columns; timm's network has one for the three, and maps columns to rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = Mapping[str, NDArray[np.floating]]

#: A name that each of these files has.
SIGN = "Transformer/encoder_norm/scale"
_OUTER = {"embedding": "patch_embed.proj", "Transformer/encoder_norm": "norm", "pre_logits": "pre_logits.fc", "head": "head"}
_WHOLE = {"cls": "cls_token", "Transformer/posembed_input/pos_embedding": "pos_embed"}
_BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/(.+)")
_INNER = {"LayerNorm_0": "norm1", "LayerNorm_2": "norm2", "MlpBlock_3/Dense_0": "mlp.fc1", "MlpBlock_3/Dense_1": "mlp.fc2"}
_ATTENTION = "MultiHeadDotProductAttention_1"
_THREE = ("query", "key", "value")
_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def translated(arrays: Arrays) -> dict[str, Tensor]:
    """Return arrays as a state dict of timm's ViT. A name that is none of these files' keeps it, and a strict load will name it."""
    state: dict[str, Tensor] = {}
    attention: dict[str, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        layer, _, leaf = name.rpartition("/")
        block = _BLOCK.fullmatch(layer)
        what, _, which = block[2].partition("/") if block is not None else ("", "", "")
        if name in _WHOLE:
            state[_WHOLE[name]] = _tensor(value)
        elif leaf not in _LEAVES:
            state[name] = _tensor(value)
        elif layer in _OUTER:
            state[f"{_OUTER[layer]}.{_LEAVES[leaf]}"] = _turned(value)
        elif block is not None and block[2] in _INNER:
            state[f"blocks.{block[1]}.{_INNER[block[2]]}.{_LEAVES[leaf]}"] = _turned(value)
        elif block is not None and what == _ATTENTION and which == "out":
            state[f"blocks.{block[1]}.attn.proj.{_LEAVES[leaf]}"] = _turned(
                value.reshape(-1, value.shape[-1]) if leaf == "kernel" else value
            )
        elif block is not None and what == _ATTENTION and which in _THREE:
            # (width, heads, width of a head), and (heads, width of a head) of a bias.
            flat = value.reshape(value.shape[0], -1) if leaf == "kernel" else value.reshape(-1)
            attention.setdefault(f"blocks.{block[1]}.attn", {})[f"{which}.{_LEAVES[leaf]}"] = _turned(flat)
        else:
            state[name] = _tensor(value)
    for layer, three in attention.items():
        state |= _joined(layer, three)
    return state


def _joined(layer: str, three: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return query, key and value as one layer; where one of them is missing they stay apart, and a strict load will name them."""
    state: dict[str, Tensor] = {}
    for leaf in ("weight", "bias"):
        found = {f"{which}.{leaf}": three[f"{which}.{leaf}"] for which in _THREE if f"{which}.{leaf}" in three}
        if len(found) == len(_THREE) and len({value.shape[1:] for value in found.values()}) == 1:
            state[f"{layer}.qkv.{leaf}"] = torch.cat(list(found.values()))
        else:
            state |= {f"{layer}.{name}": value for name, value in found.items()}
    return state


def _turned(value: NDArray[np.floating]) -> Tensor:
    """Return a kernel (height, width, in, out) or (in, out) as a weight (out, in, height, width) or (out, in); vectors stay."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim)))
    return _tensor(value.transpose(axes))


def _tensor(value: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))
