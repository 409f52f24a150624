"""Weights loaded whole or refused: files in, key names translated, every key accounted for, converters out."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from trainers.errors import WeightsError

State = dict[str, Tensor]

#: Where a checkpoint file keeps its state dict.
_STATE_ENTRIES = ("state_dict", "model", "model_state", "model_state_dict")
_LISTED = 6
#: Counters that files older than PyTorch 0.4.1 lack and that no forward pass reads.
_UNUSED_BUFFERS = ("*.num_batches_tracked",)

OURS = "cxr-orchestrator"
MOCO = "moco"
LITE0 = "efficientnet_pytorch"
PLAIN = "plain"
#: What a file may hold besides its backbone, by who wrote it; anything else is refused.
_BESIDE: Mapping[str, tuple[str, ...]] = {
    OURS: ("head.*",),
    MOCO: ("encoder_k.*", "queue", "queue_ptr", "encoder_q.fc.*", "encoder_q.classifier.*"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """What became of every key of a file and of the module that it was loaded into."""

    source: str
    kind: str = PLAIN
    loaded: tuple[str, ...] = ()
    #: Keys of the file that are of no use to this module, by declaration (a momentum encoder, a queue, a head).
    dropped: tuple[str, ...] = ()
    #: Keys of the module that the file lacks, by declaration; they keep the values they were built with.
    missing: tuple[str, ...] = ()
    #: Keys whose input channels were changed (`conv1.weight 3 -> 1`).
    adapted: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the report as one line for a log."""
        parts = [f"{len(self.loaded)} loaded", f"{len(self.dropped)} dropped", f"{len(self.missing)} left as built"]
        return f"{self.source} ({self.kind}): " + ", ".join([*parts, *self.adapted])


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a weights file holds."""

    path: str
    file_bytes: int
    sha256: str
    kind: str
    #: What the file says of itself, where it does.
    arch: str = ""
    epoch: int | None = None
    tensors: int = 0
    parameters: int = 0
    #: First part of the key, without wrappers -> number of tensors.
    groups: Mapping[str, int] = field(default_factory=dict)
    #: Name and shape of the first convolution.
    stem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return asdict(self)


def read(path: Path) -> State:
    """Read the state dict of a `.safetensors` file or a torch checkpoint. Raises WeightsError when there is none in it."""
    return _open(path)[0]


def _open(path: Path) -> tuple[State, dict[str, Any]]:
    """Return the state dict of a file and the plain values beside it."""
    try:
        content = path.read_bytes() if path.suffix == ".safetensors" else None
        loaded = load_safetensors(content) if content is not None else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such weights file; correct the path") from None
    except pickle.UnpicklingError:
        if not _is_checkpoint(path):
            raise _damaged(path) from None
        raise WeightsError(f"{path}: holds Python objects, which are not loaded; save its state_dict alone and give that file") from None
    except (RuntimeError, EOFError, OSError, SafetensorError, ValueError):
        raise _damaged(path) from None
    if not isinstance(loaded, Mapping):
        raise WeightsError(f"{path}: holds no state dict; save one with torch.save(model.state_dict(), ...)")
    entries = (loaded.get(name) for name in _STATE_ENTRIES)
    inner: Mapping[str, Any] = next((entry for entry in entries if isinstance(entry, Mapping)), loaded)
    state = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no state dict; save one with torch.save(model.state_dict(), ...)")
    return state, {name: value for name, value in loaded.items() if isinstance(value, (str, int, float))}


def _is_checkpoint(path: Path) -> bool:
    """Tell whether a file begins as torch's archives or pickles do: any other bytes make the unpickler say the same."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _damaged(path: Path) -> WeightsError:
    return WeightsError(f"{path}: cannot be read as weights (damaged, or another format); fetch or write the file again")


def kind_of(state: Mapping[str, Tensor]) -> str:
    """Tell who wrote a state dict from its key names."""
    names = [name.removeprefix("module.") for name in state]
    if any(name.startswith("encoder_q.") for name in names):
        return MOCO
    if any(name.startswith("backbone.") for name in names):
        return OURS
    if "_conv_stem.weight" in names:
        return LITE0
    return PLAIN


def backbone_state(state: Mapping[str, Tensor], targets: tuple[str, ...] = ()) -> tuple[State, tuple[str, ...]]:
    """Return the backbone's part of a state dict under the backbone's own names, and the keys that were dropped.

    A MoCo checkpoint gives its query encoder without the projection head; the momentum encoder and the queue are dropped (the
    published MoCo-CXR files: `module.encoder_q.*`). `targets` are the module's keys, which the EfficientNet names are matched to.
    """
    kind = kind_of(state)
    plain = {name.removeprefix("module."): value for name, value in state.items()}
    if kind == LITE0:
        return {_lite0_name(name, _block_order(targets)): value for name, value in plain.items()}, ()
    prefix = {MOCO: "encoder_q.", OURS: "backbone."}.get(kind, "")
    kept = {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}
    dropped = [name for name in plain if not name.startswith(prefix)]
    if kind == MOCO:
        heads = [name for name in kept if name.startswith(("fc.", "classifier."))]
        dropped += [prefix + name for name in heads]
        kept = {name: value for name, value in kept.items() if name not in heads}
    return kept, tuple(dropped)


def _block_order(targets: tuple[str, ...]) -> list[str]:
    """Return timm's block names (`blocks.0.0`) in order, each with whether it expands."""
    return list(dict.fromkeys(".".join(name.split(".")[:3]) for name in targets if name.startswith("blocks.")))


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


def _lite0_name(name: str, blocks: list[str]) -> str:
    """Translate one key of the `efficientnet_pytorch` package into timm's; the first block is the one that does not expand."""
    head, _, rest = name.partition(".")
    if head != "_blocks":
        return f"{_LITE0_OUTER.get(head, head)}.{rest}"
    number, layer, leaf = rest.split(".", 2)
    if int(number) >= len(blocks):
        return name
    names = _LITE0_FIRST if int(number) == 0 else _LITE0_BLOCK
    return f"{blocks[int(number)]}.{names.get(layer, layer)}.{leaf}"


def load_matching(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    rename: Callable[[str], str | None] | None = None,
    allowed_missing: tuple[str, ...] = (),
    allowed_unexpected: tuple[str, ...] = (),
    adapt_stem: str | None = None,
    what: str = "the state dict",
    target: str = "the model",
) -> KeyReport:
    """Load a state dict, accounting for every key; anything not declared is refused and nothing is loaded.

    `what` and `target` name the two in a refusal. `rename` gives a key's new name, or None to drop it. `allowed_missing` (keys of the
    module) and `allowed_unexpected` (keys of the file) are shell patterns. `adapt_stem` names a convolution whose input channels may
    differ: they are summed to one, or repeated and divided. Raises WeightsError listing the missing, unexpected and misshapen keys.
    """
    renamed = {name: (rename(name) if rename else name) for name in state}
    incoming = {new: state[old] for old, new in renamed.items() if new is not None}
    dropped = [old for old, new in renamed.items() if new is None]
    own = module.state_dict()
    adapted: list[str] = []
    if adapt_stem is not None:
        incoming, adapted = _with_channels_of(own, incoming, f"{adapt_stem}.weight")
    missing = [name for name in own if name not in incoming]
    unexpected = [name for name in incoming if name not in own]
    shapes = [
        f"{name} {tuple(incoming[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in incoming and incoming[name].shape != own[name].shape
    ]
    _refuse_unless_declared(
        _undeclared(missing, allowed_missing), _undeclared(unexpected, allowed_unexpected), shapes, what=what, target=target
    )
    loaded = {name: value for name, value in incoming.items() if name in own}
    module.load_state_dict({**own, **loaded}, strict=True)
    return KeyReport(
        source=what,
        loaded=tuple(loaded),
        dropped=(*dropped, *unexpected),
        missing=tuple(missing),
        adapted=tuple(adapted),
    )


def _undeclared(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def _refuse_unless_declared(missing: list[str], unexpected: list[str], shapes: list[str], *, what: str, target: str) -> None:
    faults = [
        f"{how}: {len(names)} ({', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''})"
        for names, how in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
        if names
    ]
    if faults:
        raise WeightsError(f"{what} does not fit {target}: keys {'; '.join(faults)}; give the architecture that it was saved from")


def _with_channels_of(own: Mapping[str, Tensor], incoming: State, name: str) -> tuple[State, list[str]]:
    """Give the stem of `incoming` the input channels of `own`, so that a grey image in every channel gives the same response."""
    if name not in own or name not in incoming or own[name].dim() != 4 or incoming[name].dim() != 4:
        return incoming, []
    here, there = own[name].shape[1], incoming[name].shape[1]
    if here == there or 1 not in (here, there):
        return incoming, []
    weight = incoming[name]
    changed = weight.sum(1, keepdim=True) if here == 1 else weight.repeat(1, here, 1, 1) / here
    return {**incoming, name: changed}, [f"{name} {there} -> {here} input channels"]


def load_backbone(backbone: nn.Module, path: Path, arch: str) -> KeyReport:
    """Load a backbone from any file that `backbone_state` understands; only a classification head of the file may be unused.

    Raises WeightsError in one sentence when the file is of another architecture.
    """
    state = read(path)
    kind = kind_of(state)
    kept, dropped = backbone_state(state, tuple(backbone.state_dict()))
    _refuse_unless_declared([], _undeclared(list(dropped), _BESIDE.get(kind, ())), [], what=str(path), target=f"arch '{arch}'")
    described = dict(getattr(backbone, "pretrained_cfg", None) or {})
    heads = described.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    stem = described.get("first_conv")
    report = load_matching(
        backbone,
        _as_timm_names(kept, backbone) if kind == PLAIN else kept,
        allowed_missing=_UNUSED_BUFFERS,
        allowed_unexpected=tuple(f"{head}.*" for head in heads),
        adapt_stem=stem if isinstance(stem, str) else None,
        what=str(path),
        target=f"arch '{arch}'",
    )
    return KeyReport(
        source=report.source,
        kind=kind,
        loaded=report.loaded,
        dropped=(*dropped, *report.dropped),
        missing=report.missing,
        adapted=report.adapted,
    )


def _as_timm_names(state: State, backbone: nn.Module) -> State:
    """Let timm's own filter of the architecture translate files of its makers (Swin's and ViT's older names, position tables)."""
    translate = getattr(sys.modules.get(type(backbone).__module__), "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        return dict(translate(dict(state), backbone))
    # A filter trips over files of other architectures in its own ways; the strict load that follows names their keys.
    except (KeyError, AttributeError, RuntimeError, IndexError, TypeError, ValueError):
        return state


def inspect(path: Path) -> Summary:
    """Say what a weights file holds. Raises WeightsError when it holds none."""
    state, beside = _open(path)
    groups: dict[str, int] = {}
    for name in state:
        first = name.removeprefix("module.").split(".")[0]
        groups[first] = groups.get(first, 0) + 1
    stem = next((f"{name} {tuple(value.shape)}" for name, value in state.items() if value.dim() == 4), "")
    epoch = beside.get("epoch")
    return Summary(
        path=str(path),
        file_bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        kind=kind_of(state),
        arch=str(beside.get("arch", "")),
        epoch=epoch if isinstance(epoch, int) else None,
        tensors=len(state),
        parameters=sum(value.numel() for value in state.values() if value.is_floating_point()),
        groups=dict(sorted(groups.items())),
        stem=stem,
    )


def convert(path: Path, to: Path, *, arch: str, channels: int = 3) -> KeyReport:
    """Write a file's backbone as a plain timm state dict (torchvision's names where the two agree), checked whole against `arch`.

    `to` ends in `.safetensors`, `.pth` or `.pt`. Raises WeightsError when a key is missing, unexpected or of another shape.
    """
    from trainers.parts import backbones

    if to.suffix not in (".safetensors", ".pth", ".pt"):
        raise WeightsError(f"{to}: write to a name that ends in .safetensors or .pth")
    backbone = backbones.build(arch, channels, None)
    report = load_backbone(backbone, path, arch)
    state = {name: value.contiguous() for name, value in backbone.state_dict().items()}
    aside = to.with_name(f".{to.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            if to.suffix == ".safetensors":
                file.write(save_safetensors(state))
            else:
                torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(to)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return report


def fingerprint(module: nn.Module) -> str:
    """Return the sha256 of a module's parameters and buffers, names and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
