"""Pretraining checkpoints of SimMIM, written: a Swin under Microsoft's names with its stored tables, the mask token and the decoder.

Source of the names: the public code of SimMIM (`models/simmim.py`, `models/swin_transformer.py`), whose network is loaded strictly by
them when a pretraining goes on, and by those of the encoder when it is fine-tuned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isqrt

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import fitting, names
from trainers.released.files import State
from trainers.released.formats import Parts

#: Name of what rebuilds pixels in a checkpoint of ours, below its head -> in one of SimMIM's.
REBUILDER: Mapping[str, str] = {"mask_token": "encoder.mask_token", "decoder.weight": "decoder.0.weight", "decoder.bias": "decoder.0.bias"}
ENTRY = "model"
_ENCODER = "encoder."
_TABLE = "relative_position_bias_table"
_MERGING = re.compile(r"layers\.(\d+)\.downsample\.")


def takes(arch: str) -> bool:
    """Tell whether an architecture is a Swin of the first kind, which is what SimMIM publishes under these names."""
    return backbones.OWN.get(arch, (arch, {}))[0].startswith("swin_")


def window_of(parts: Parts) -> int:
    """Return the side of the windows of a file's Swin, in tokens. Raises WeightsError when its tables are of none."""
    table = next((value for name, value in parts.backbone.items() if name.endswith(_TABLE)), None)
    side = isqrt(table.shape[0]) if table is not None and table.dim() == 2 else 0
    if table is None or side * side != table.shape[0] or side % 2 == 0:
        raise WeightsError("--to simmim: its relative-position tables are of no square window; take --to timm or --to cxr")
    return (side + 1) // 2


def refuse_channels(asked: int | None, channels: int, there: int) -> None:
    """Raise WeightsError when other input channels are asked for than the decoder rebuilds."""
    if channels != there:
        raise WeightsError(f"--channels {asked}: its decoder rebuilds {there}, so that its encoder sees {there}; leave it out")


def network(arch: str, channels: int, window: int) -> SwinTransformer:
    """Build a Swin with windows of a side, at the size whose coarsest map is one of them: of a Swin-B 192 for 6, 224 for 7."""
    with torch.device("meta"):
        plain = backbones.build(arch, channels, None)
    assert isinstance(plain, SwinTransformer)
    made = backbones.build(arch, channels, _stride(plain) * window, window=window)
    assert isinstance(made, SwinTransformer)
    return made


def _stride(encoder: SwinTransformer) -> int:
    """Return the pixels on a side of one of the last features."""
    return int(encoder.patch_embed.patch_size[0]) * 2 ** (encoder.num_layers - 1)  # pyright: ignore[reportIndexIssue, reportArgumentType]


def rebuilder(parts: Parts, state: State) -> tuple[State, dict[str, str]]:
    """Return what rebuilds pixels in a pretraining of ours or of SimMIM, and the key of each in the file (without wrappers).

    Raises WeightsError for a file that is no masked pretraining.
    """
    keys = REBUILDER if parts.kind == "simmim" else {name: f"{parts.head_name}.{name}" for name in REBUILDER}
    if missing := [name for name, key in keys.items() if key not in state]:
        raise WeightsError(
            f"--to simmim: there is no {missing[0]} in it, so it is no masked pretraining; --to timm and --to cxr write its network alone"
        )
    return {name: state[key].float() for name, key in keys.items()}, dict(keys)


def check(rebuilds: State, encoder: nn.Module, channels: int) -> None:
    """Raise WeightsError when the mask token or the decoder is of another network."""
    assert isinstance(encoder, SwinTransformer)
    pixels = _stride(encoder) ** 2 * channels
    wanted = {
        "mask_token": (1, 1, int(encoder.embed_dim)),
        "decoder.weight": (pixels, int(encoder.num_features), 1, 1),
        "decoder.bias": (pixels,),
    }
    for name, shape in wanted.items():
        if tuple(rebuilds[name].shape) != shape:
            found = tuple(rebuilds[name].shape)
            raise WeightsError(f"--to simmim: its {name} is {found}, and that of this network {shape}: it is of another pretraining")


def name_of(name: str) -> str:
    """Return SimMIM's name of a key of timm's Swin: merging stands at the end of a stage, and not at the beginning of the next."""
    return _ENCODER + _MERGING.sub(lambda found: f"layers.{int(found[1]) - 1}.downsample.", name)


def tables(encoder: nn.Module) -> State:
    """Return the tables that Microsoft's Swin stores and today's compute, under SimMIM's names: index of pairs, mask of shifted windows."""
    found: State = {}
    for name, value in encoder.named_buffers():
        if fitting.is_computed(name):
            found[name_of(name)] = value.detach().clone()
    return found


def as_read(state: Mapping[str, Tensor]) -> State:
    """Return a checkpoint's encoder under timm's names, as fine-tuning reads it: below `encoder.`, without tables and mask token."""
    below = {name.removeprefix(_ENCODER): value for name, value in state.items() if name.startswith(_ENCODER)}
    kept = {name: value for name, value in below.items() if not fitting.is_computed(name) and name != "mask_token"}
    renamed = names.to_timm(kept, ())
    return {renamed[name]: value for name, value in kept.items()}


def named_for(backbone: Iterable[str], rebuilds: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return SimMIM's name of every learnt tensor -> (`backbone` or `head`, its name there)."""
    return {**{name_of(name): ("backbone", name) for name in backbone}, **{REBUILDER[name]: ("head", name) for name in rebuilds}}
