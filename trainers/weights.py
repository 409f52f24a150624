"""Weights loaded whole or refused: key names translated, every key accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import WeightsError
from trainers.released import fitting
from trainers.released.files import State, open_weights
from trainers.released.formats import Parts, split
from trainers.released.published import HEADS, PLAIN

_LISTED = 6
#: Counters that files older than PyTorch 0.4.1 lack and that no forward pass reads.
_UNUSED_BUFFERS = ("*.num_batches_tracked",)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """What became of every key of a file and of the module that it was loaded into."""

    source: str
    kind: str = PLAIN
    #: Which network of a file that has several.
    part: str = ""
    loaded: tuple[str, ...] = ()
    #: Keys of the file that are of no use to this module, by declaration (a momentum encoder, a queue, a head).
    dropped: tuple[str, ...] = ()
    #: What dropped keys belong to, where the format says it -> how many.
    owners: Mapping[str, int] = field(default_factory=dict)
    #: Of these, what belongs to the part that was taken and this network has no place for -> the keys.
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Keys of the module that the file lacks, by declaration; they keep the values they were built with.
    missing: tuple[str, ...] = ()
    #: What was changed, in words: input channels (`conv1.weight 3 -> 1`), grids and windows of positions.
    adapted: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the report as one line for a log."""
        owners = ", ".join(f"{count} {owner}" for owner, count in self.owners.items())
        dropped = f"{len(self.dropped)} dropped" + (f" ({owners})" if owners else "")
        parts = [f"{len(self.loaded)} loaded", dropped, f"{len(self.missing)} left as built"]
        return f"{self.source} ({self.kind}{f', {self.part}' if self.part else ''}): " + ", ".join([*parts, *self.adapted])


def read(path: Path) -> State:
    """Read the state dict of a `.safetensors` file or a torch checkpoint. Raises WeightsError when there is none in it."""
    return open_weights(path).state


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
    # Kept as it is, because some networks ask it for the version that it carries (torchvision's MNASNet).
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
    own.update(loaded)
    module.load_state_dict(own, strict=True)
    return KeyReport(
        source=what,
        loaded=tuple(loaded),
        dropped=(*dropped, *unexpected),
        missing=tuple(missing),
        adapted=tuple(adapted),
    )


class _DoesNotFit(WeightsError):
    """Keys or shapes that are not declared, before anybody said what to do."""

    def __init__(self, faults: str) -> None:
        self.faults = faults
        super().__init__(f"{faults}; give the architecture that it was saved from")


def _undeclared(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    return [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]


def _refuse_unless_declared(missing: list[str], unexpected: list[str], shapes: list[str], *, what: str, target: str) -> None:
    faults = [
        f"{how}: {len(names)} ({', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''})"
        for names, how in ((missing, "missing"), (unexpected, "unexpected"), (shapes, "of another shape"))
        if names
    ]
    if faults:
        raise _DoesNotFit(f"{what} does not fit {target}: keys {'; '.join(faults)}")


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


def load_backbone(backbone: nn.Module, path: Path, arch: str, part: str = "") -> KeyReport:
    """Load a backbone from a file of any format that `split` understands; only what its format declares besides may be unused.

    `part` names one network of a file that holds several. Raises WeightsError in one sentence when the file is of another architecture,
    naming the one that it is of where it is known.
    """
    try:
        parts = split(open_weights(path).state, part=part, heads=heads_of(backbone))
    except WeightsError as error:
        raise error if str(error).startswith(str(path)) else WeightsError(f"{path}: {error}") from None
    return load_parts(backbone, parts, what=str(path), arch=arch)


def heads_of(backbone: nn.Module) -> tuple[str, ...]:
    """Return what files of an architecture may call its classifier."""
    return tuple(dict.fromkeys([*_classifiers(backbone), *HEADS]))


def _classifiers(backbone: nn.Module) -> tuple[str, ...]:
    heads = _described(backbone).get("classifier") or ()
    return (heads,) if isinstance(heads, str) else tuple(heads)


def _described(backbone: nn.Module) -> dict[str, Any]:
    """Return what timm says of a network's weights."""
    return dict(getattr(backbone, "pretrained_cfg", None) or {})


def load_parts(backbone: nn.Module, parts: Parts, *, what: str, arch: str) -> KeyReport:
    """Load the backbone's part of a state dict, under timm's names. Raises WeightsError as `load_backbone` does."""
    stem = _described(backbone).get("first_conv")
    fitted = fitting.fitted(parts, backbone, _classifiers(backbone))
    if not fitted.state.keys() & backbone.state_dict().keys():
        first = ", ".join(list(parts.backbone)[:2])
        raise WeightsError(
            f"{what}: none of its {len(parts.backbone)} keys ({first}, ...) is one of arch '{arch}'; {_instead(parts, arch, backbone)}"
        )
    try:
        report = load_matching(
            backbone,
            fitted.state,
            allowed_missing=(*_UNUSED_BUFFERS, *fitted.allowed_missing),
            adapt_stem=stem if isinstance(stem, str) else None,
            what=what,
            target=f"arch '{arch}'",
        )
    except _DoesNotFit as misfit:
        raise WeightsError(f"{misfit.faults}; {_instead(parts, arch, backbone)}") from None
    elsewhere = {**parts.dropped, **fitted.dropped}
    head = {"head": parts.head_keys} if parts.head else {}
    return KeyReport(
        source=report.source,
        kind=parts.kind,
        part=parts.part,
        loaded=report.loaded,
        dropped=tuple(key for keys in (head | elsewhere).values() for key in keys),
        owners={owner: len(keys) for owner, keys in (head | elsewhere).items()},
        unused=fitted.dropped,
        missing=report.missing,
        adapted=(*fitted.adapted, *report.adapted),
    )


def _instead(parts: Parts, arch: str, backbone: nn.Module) -> str:
    """Say what to type for a file that is of another architecture, or of another way to pool."""
    # Here and not above: telling an architecture builds networks, which load their weights by this module.
    from trainers.released.architectures import pool_of, recognise

    found = recognise(parts)
    if not found:
        return "give the architecture that it was saved from"
    if arch in found and pool_of(parts, arch) == "avg" and "norm.weight" in backbone.state_dict():
        return "its network takes the mean of its patches and has a norm behind it: set pool: avg, which trainer classification has"
    return f"its keys and shapes are those of {' or '.join(repr(arch) for arch in found)}: give that architecture"


def fingerprint(module: nn.Module) -> str:
    """Return the sha256 of a module's parameters and buffers, names and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
