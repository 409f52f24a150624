"""Formats that weights are written as: names, place of the head, what the file is, and a fresh network that must take it whole."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import names, simmim_files
from trainers.released.files import State

TO_TORCHVISION, TO_TIMM, TO_MOCO_CXR, TO_FACEBOOK, TO_SIMMIM, TO_CXR = "torchvision", "timm", "moco_cxr", "facebook_moco", "simmim", "cxr"
TARGETS = (TO_TORCHVISION, TO_TIMM, TO_MOCO_CXR, TO_FACEBOOK, TO_SIMMIM, TO_CXR)
BACKBONE, HEAD = "backbone", "head"
#: Under this name the files that are written say where they come from.
PROVENANCE = "cxr_orchestrator"
#: Where torch's state dicts carry the versions of modules.
_VERSIONS = "_metadata"
_MOCO = (TO_MOCO_CXR, TO_FACEBOOK)
#: Formats whose readers build torchvision's networks, which see three channels.
_THREE_CHANNELS = (TO_TORCHVISION, *_MOCO)
_QUERY = "module.encoder_q."
_SAFETENSORS, _TORCH = ".safetensors", (".pth", ".pt")
_CHECKPOINT = ".pth.tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What is to be written: tensors under their new names, with what says of what they are."""

    to: str
    arch: str
    channels: int
    pool: str
    #: Side of a window in a format that keeps that of the file; None is the architecture's.
    window: int | None
    state: State
    #: The head's tensors under the names below it; none when it is left out.
    head: State
    #: What stands beside the state dict in a checkpoint of MoCo.
    about: Mapping[str, Any]
    provenance: Mapping[str, Any]


def suffix_of(to: str) -> str:
    """Return the suffix that a format's files have unless another is asked for."""
    return {TO_TORCHVISION: ".pth", TO_SIMMIM: ".pth", TO_MOCO_CXR: _CHECKPOINT, TO_FACEBOOK: _CHECKPOINT}.get(to, _SAFETENSORS)


def refuse_unversioned(to: str, arch: str, out: Path) -> None:
    """Raise WeightsError for torchvision's MNASNet in a file that cannot carry the version that it asks for."""
    if to == TO_TORCHVISION and arch.startswith("mnasnet") and out.name.endswith(_SAFETENSORS):
        raise WeightsError(
            f"--out {out}: torchvision's MNASNet loads no state dict without a version, which .safetensors cannot hold: name it .pth"
        )


def refuse_suffix(to: str, out: Path) -> None:
    """Raise WeightsError when a format's files have no such suffix."""
    of_moco = (_CHECKPOINT, *_TORCH)
    allowed = {TO_CXR: (_SAFETENSORS,), TO_MOCO_CXR: of_moco, TO_FACEBOOK: of_moco, TO_SIMMIM: _TORCH}.get(to, (_SAFETENSORS, *_TORCH))
    if not out.name.endswith(allowed):
        raise WeightsError(f"--out {out}: a file for --to {to} is named {' or '.join(f'*{one}' for one in allowed)}")


def default_channels(to: str, channels: int) -> int:
    """Return the input channels that a format's files have unless others are asked for."""
    return 3 if to in _THREE_CHANNELS else channels


def refuse_arch(to: str, arch: str) -> None:
    """Raise WeightsError when a format has no network of an architecture."""
    if to in _THREE_CHANNELS and arch not in names.TORCHVISION:
        raise WeightsError(f"--to {to}: torchvision has no {arch}; it has {', '.join(names.TORCHVISION)}. Type --to timm or --to cxr")
    if to == TO_FACEBOOK and not arch.startswith(("resnet", "wide_resnet", "resnext")):
        raise WeightsError(f"--to {to}: facebookresearch's MoCo takes networks whose head is called fc, and {arch} is none: --to moco_cxr")
    if to == TO_SIMMIM and not simmim_files.takes(arch):
        raise WeightsError(f"--to {to}: written for a Swin (swin_*), and this is {arch}; type --to timm or --to cxr")
    if to == TO_TIMM and arch in backbones.OWN:
        raise WeightsError(f"--to {to}: timm has no {arch}, which is this project's own; type --to cxr")


def refuse_head(to: str, role: str, mlp: bool) -> None:
    """Raise WeightsError when a format has no place for a head."""
    if to in _MOCO and role != "projection":
        what = "a classifier" if role else "not known to be a projection"
        raise WeightsError(f"--keep-head: the head of this file is {what}, and --to {to} has a place for a projection; leave it out")
    if to in (TO_TORCHVISION, TO_TIMM) and mlp:
        raise WeightsError(
            f"--keep-head: --to {to} has a place for one layer, and this head has a hidden one; leave it out, or --to moco_cxr"
        )


def named_for(to: str, arch: str, backbone: Iterable[str], head: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the name of every tensor in a file of a format: new name -> (`backbone` or `head`, its name there)."""
    own = list(backbone)
    if to == TO_SIMMIM:
        return simmim_files.named_for(own, head)
    renamed = {name: name for name in own}
    if to == TO_CXR:
        top, prefix = "", "backbone."
    elif to == TO_TIMM:
        top, prefix = f"{head_name_in_timm(arch)}.", ""
    else:
        renamed, prefix = names.to_torchvision(own, arch), _QUERY if to in _MOCO else ""
        # In front of torchvision's classifier of an MNASNet stands a Dropout; MoCo-CXR replaces both by its projection.
        dropout = arch.startswith("mnasnet") and to == TO_TORCHVISION
        top = f"{head_name_in_torchvision(arch)}.{'1.' if dropout else ''}"
    found = {f"{prefix}{renamed[name]}": (BACKBONE, name) for name in own}
    above = "head." if to == TO_CXR else f"{prefix}{top}"
    return {**found, **{f"{above}{name}": (HEAD, name) for name in head}}


def head_name_in_torchvision(arch: str) -> str:
    """Return what torchvision calls the head of an architecture."""
    return "classifier" if arch.startswith(("densenet", "mnasnet")) else "fc"


def head_name_in_timm(arch: str) -> str:
    """Return what timm calls the head of an architecture."""
    described = timm.get_pretrained_cfg(arch)
    name = None if described is None else described.classifier
    return name if isinstance(name, str) and name else "fc"


def write(made: Made, file: Path) -> None:
    """Write a format's file; in `.safetensors` and MoCo's checkpoints stands where it comes from, a plain state dict has no room for it."""
    if file.name.endswith(_SAFETENSORS):
        file.write_bytes(_as_safetensors(made))
        return
    state = OrderedDict(made.state)
    if made.to == TO_SIMMIM:
        torch.save({**made.about, simmim_files.ENTRY: state, PROVENANCE: dict(made.provenance)}, file)
        return
    # torchvision's MNASNet refuses a state dict that does not carry the versions of its modules, and takes one of version 1 for older code.
    with torch.device("meta"):
        setattr(state, _VERSIONS, getattr(fresh(made).state_dict(), _VERSIONS))
    torch.save({**made.about, "state_dict": state, PROVENANCE: dict(made.provenance)} if made.to in _MOCO else state, file)


def _as_safetensors(made: Made) -> bytes:
    """Return a file whose header is sorted: the library writes what is not tensors in an order of its own, and other bytes each time."""
    content = save_safetensors(made.state)
    length = int.from_bytes(content[:8], "little")
    metadata = {"__metadata__": {PROVENANCE: json.dumps(made.provenance, sort_keys=True), "format": "pt"}}
    header = json.dumps({**metadata, **json.loads(content[8 : 8 + length])}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def as_its_readers_do(made: Made, file: Path) -> Mapping[str, torch.Tensor]:
    """Read a file as the programs that it is for do: torch.load or safetensors, and of MoCo the query encoder's keys renamed in place."""
    if file.name.endswith(_SAFETENSORS):
        return load_safetensors(file.read_bytes())
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if made.to == TO_SIMMIM:
        return simmim_files.as_read(loaded[simmim_files.ENTRY])
    if made.to not in _MOCO:
        return loaded
    state = loaded["state_dict"]
    for name in list(state):
        state[name.removeprefix(_QUERY)] = state.pop(name)
    return state


def inside(made: Made) -> State:
    """Return what is written under the names of the network that reads it."""
    if made.to == TO_SIMMIM:
        return simmim_files.as_read(made.state)
    return {name.removeprefix(_QUERY): value for name, value in made.state.items()} if made.to in _MOCO else made.state


def fresh(made: Made) -> nn.Module:
    """Build the network that a format's readers build, with its head replaced by one like that of what is written, or by nothing."""
    if made.to == TO_CXR:
        module = nn.Module()
        module.add_module("backbone", backbones.build(made.arch, made.channels, None, pool=made.pool))
        if made.head:
            module.add_module("head", head_like(made.head))
        return module
    if made.window is not None:
        return simmim_files.network(made.arch, made.channels, made.window)
    if made.to == TO_TIMM:
        outputs = int(made.head["weight"].shape[0]) if made.head else 0
        pooled: dict[str, Any] = {"global_pool": "avg"} if made.pool == backbones.POOL_AVG else {}
        return timm.create_model(made.arch, pretrained=False, num_classes=outputs, in_chans=made.channels, **pooled)
    return _of_torchvision(made)


def features_of(made: Made, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the pooled features (B, width) of a network that `fresh` built without a head."""
    return module.get_submodule("backbone")(images) if made.to == TO_CXR else module(images)


def head_like(head: State) -> nn.Module:
    """Build layers of a head's shapes: one linear layer, or two with a ReLU between them."""
    if "weight" in head:
        return _linear(head, "")
    return nn.Sequential(_linear(head, "0."), nn.ReLU(), _linear(head, "2."))


def _linear(head: State, prefix: str) -> nn.Linear:
    weight = head.get(f"{prefix}weight")
    if weight is None or weight.dim() != 2:
        raise WeightsError(f"--keep-head: the head's layers ({', '.join(head)}) are not those of MoCo or of a classifier; leave it out")
    return nn.Linear(int(weight.shape[1]), int(weight.shape[0]), bias=f"{prefix}bias" in head)


def _of_torchvision(made: Made) -> nn.Module:
    # Here and not above: torchvision takes a second to import, and only this needs it.
    from torchvision.models import get_model

    module = get_model(names.TORCHVISION[made.arch], weights=None)
    top: nn.Module = head_like(made.head) if made.head else nn.Identity()
    if made.head and made.to == TO_TORCHVISION and made.arch.startswith("mnasnet"):
        top = nn.Sequential(nn.Dropout(0.2), top)
    setattr(module, head_name_in_torchvision(made.arch), top)
    if made.channels != 3:
        name, stem = next((name, one) for name, one in module.named_modules() if isinstance(one, nn.Conv2d))
        size, stride, padding = stem.kernel_size, stem.stride, stem.padding
        parent, _, leaf = name.rpartition(".")
        grey = nn.Conv2d(made.channels, stem.out_channels, size, stride, padding, bias=False)  # type: ignore[arg-type]
        setattr(module.get_submodule(parent), leaf, grey)
    return module
