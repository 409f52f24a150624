"""The same weights as another format, whole or not at all: every key used or named as dropped, and the file tried before it is kept."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor

from trainers import weights
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import architectures, fitting, formats, inspecting, names, simmim_files, targets
from trainers.released.files import Opened, State, open_weights, sha256_of
from trainers.released.formats import Parts

#: Two networks with the same weights differ in the last bits at most: the order of sums.
_TOLERANCE = 1e-5
_NAMED = 4
_TRIED_PX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a file is to be converted."""

    to: str
    out: Path | None = None
    #: timm's or torchvision's name; told from the shapes when empty.
    arch: str = ""
    #: Which network of a file that holds several; the first of its format when empty.
    part: str = ""
    channels: int | None = None
    keep_head: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What became of every key of a file, and what was written."""

    source: str
    source_sha256: str
    source_kind: str
    to: str
    out: str
    sha256: str
    file_bytes: int
    arch: str
    part: str
    channels: int
    #: Key of the file -> key of what was written.
    used: Mapping[str, str] = field(default_factory=dict)
    #: What dropped keys belong to -> the keys.
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Entries beside the state dict that are not carried over (an optimizer, a scheduler).
    left_behind: tuple[str, ...] = ()
    #: Keys that the file lacks and that are written as zero: counters that no forward pass reads.
    filled: tuple[str, ...] = ()
    #: Tensors that were changed, and how.
    adapted: tuple[str, ...] = ()
    #: Largest difference between features of the network read and of the network written, for random images, over the largest feature.
    difference: float = 0.0
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)


def convert(path: Path, options: Options, told: Mapping[str, Any] | None = None) -> Conversion:
    """Write a file's network as another format.

    The file is written aside, read back, loaded into a fresh network of that format whole, compared by its features, made durable and
    only then renamed. `told` is as in `inspect`. Raises WeightsError, and then nothing is written, when a key is neither used nor of a part
    that is declared as dropped, when the architecture is another, or when the format has no place for what is asked for.
    """
    told = told or {}
    out = _out(path, options)
    read = _read(path, out, options, told)
    head, role, head_keys = _head(read, options, told)
    _refuse_not_finite(path, {**read.backbone.state_dict(), **head})
    new_names = targets.named_for(options.to, read.arch, read.backbone.state_dict(), head)
    used, dropped = _account(read, new_names, head_keys)
    adapted = (*read.report.adapted, *_other_types(read.parts))
    said = {"arch": read.arch, "to": options.to, "part": read.parts.part, "channels": read.channels, "adapted": list(adapted)}
    origin = {"source_sha256": sha256_of(path), "source_name": path.name, "source_format": read.parts.kind}
    counts = {owner: len(keys) for owner, keys in dropped.items()}
    epoch = read.opened.beside.get("epoch", told.get("epoch"))
    sources = {targets.BACKBONE: read.backbone.state_dict(), targets.HEAD: head}
    made = targets.Made(
        to=options.to,
        arch=read.arch,
        channels=read.channels,
        pool=read.pool,
        window=read.window,
        state={
            **{new: sources[where][name].detach().contiguous().clone() for new, (where, name) in new_names.items()},
            **(simmim_files.tables(read.backbone) if read.window else {}),
        },
        head=head,
        about={"arch": names.TORCHVISION.get(read.arch, read.arch), **({"epoch": epoch} if isinstance(epoch, int) else {})},
        provenance={**origin, **said, "head_role": role, "dropped": counts},
    )
    difference = _written(out, made, new_names, read.backbone)
    return Conversion(
        source=str(path),
        source_sha256=origin["source_sha256"],
        source_kind=read.parts.kind,
        to=options.to,
        out=str(out),
        sha256=sha256_of(out),
        file_bytes=out.stat().st_size,
        arch=read.arch,
        part=read.parts.part,
        channels=read.channels,
        used=used,
        dropped=dropped,
        left_behind=tuple(name for name in read.opened.beside if name != targets.PROVENANCE),
        filled=read.report.missing,
        adapted=adapted,
        difference=difference,
        notes=tuple(_notes(read.report, inspecting.written_by(read.opened, read.parts), read.pool)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A file that was read whole into a network of this project."""

    opened: Opened
    parts: Parts
    arch: str
    channels: int
    pool: str
    #: Of the file, in a format that keeps it; None where the architecture's counts.
    window: int | None
    backbone: torch.nn.Module
    report: weights.KeyReport


def _read(path: Path, out: Path, options: Options, told: Mapping[str, Any]) -> _Read:
    """Load a file's backbone, every key accounted for, with the input channels that the format is to have."""
    opened = open_weights(path)
    parts = _wanted(opened, options.part)
    arch = _arch(opened, parts, options.arch, told)
    targets.refuse_arch(options.to, arch)
    targets.refuse_unversioned(options.to, arch, out)
    if options.channels not in (None, 1, 3):
        raise WeightsError(f"--channels {options.channels}: is 1 or 3")
    channels = options.channels or targets.default_channels(options.to, _channels(path, parts))
    pool, window = architectures.pool_of(parts, arch), None
    if options.to == targets.TO_SIMMIM:
        simmim_files.refuse_channels(options.channels, channels, _channels(path, parts))
        window = simmim_files.window_of(parts)
        backbone: torch.nn.Module = simmim_files.network(arch, channels, window).eval()
    else:
        backbone = backbones.build(arch, channels, None, pool=pool).eval()
    parts = formats.split(opened.state, part=options.part, heads=weights.heads_of(backbone))
    report = weights.load_parts(backbone, parts, what=str(path), arch=arch)
    return _Read(opened=opened, parts=parts, arch=arch, channels=channels, pool=pool, window=window, backbone=backbone, report=report)


def _out(path: Path, options: Options) -> Path:
    """Return where to write. Raises WeightsError for a place that cannot be written to, or that holds something."""
    if options.to not in targets.TARGETS:
        near = difflib.get_close_matches(options.to, targets.TARGETS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"it is one of {', '.join(targets.TARGETS)}"
        raise WeightsError(f"--to {options.to}: no such format; {hint}")
    stem = path.name
    for suffix in (".tar", ".safetensors", ".pth", ".pt", ".pkl", ".bin"):
        stem = stem.removesuffix(suffix)
    out = options.out or path.with_name(f"{stem}.{options.to}{targets.suffix_of(options.to)}")
    targets.refuse_suffix(options.to, out)
    if not out.parent.is_dir():
        raise WeightsError(f"--out {out}: there is no folder {out.parent}; make it, or name another place")
    if out.exists() and (out.is_dir() or (path.exists() and out.samefile(path))):
        raise WeightsError(f"--out {out}: {'is a folder' if out.is_dir() else 'is the file that is read'}; name another place")
    if out.exists() and not options.overwrite:
        raise WeightsError(f"--out {out}: is there already; type --overwrite to replace it, or name another place")
    return out


def _wanted(opened: Opened, part: str) -> Parts:
    if opened.without_tensor:
        listed = ", ".join(opened.without_tensor[:_NAMED])
        raise WeightsError(f"{opened.path}: its state dict holds values that are no tensors ({listed}); save the state_dict of a model")
    try:
        return formats.split(opened.state, part=part)
    except WeightsError as error:
        raise WeightsError(f"{opened.path}: {error}") from None


def _arch(opened: Opened, parts: Parts, asked: str, told: Mapping[str, Any]) -> str:
    """Return the architecture, asked for or told from the shapes. Raises WeightsError when it is unknown."""
    if asked:
        arch = names.timm_arch(asked)
        if not architectures.known(arch):
            near = difflib.get_close_matches(asked, [*names.TORCHVISION, *backbones.OWN, *timm.list_models()], n=1)
            raise WeightsError(f"--arch {asked}: timm knows no such network{f'; did you mean {near[0]}?' if near else ''}")
        return arch
    stated = inspecting.stated_arch(opened, told)
    found = architectures.recognise(parts, names.timm_arch(stated))
    if len(found) == 1:
        return found[0]
    if found:
        raise WeightsError(f"{opened.path}: its shapes are those of {' and of '.join(found)}: type --arch with the right one")
    says = f"; the file says '{stated}', whose shapes are others" if stated else ""
    raise WeightsError(
        f"{opened.path}: its keys and shapes are of no architecture that is known here{says}: type --arch NAME (timm's name)"
    )


def _channels(path: Path, parts: Parts) -> int:
    name, channels = architectures.stem_of(parts.backbone)
    if channels not in (1, 3):
        seen = f"{name} sees {channels} channels" if name else "its first convolution is none that is known"
        raise WeightsError(f"{path}: {seen}; networks that see 1 or 3 channels are converted")
    return channels


def _refuse_not_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        more = f" and {len(bad) - 1:,} more tensors" if len(bad) > 1 else ""
        raise WeightsError(f"{path}: values that are not finite in {bad[0]}{more}; take a checkpoint from before")


def _head(read: _Read, options: Options, told: Mapping[str, Any]) -> tuple[State, str, dict[str, str]]:
    """Return the head's tensors where asked for, what they are for, and their keys in the file without wrappers.

    Of a masked pretraining for SimMIM it is the mask token and the decoder, which its format always has. Raises WeightsError when there are
    none, or no place for them.
    """
    if options.to == targets.TO_SIMMIM:
        rebuilds, keys = simmim_files.rebuilder(read.parts, formats.unwrapped(read.opened.state))
        simmim_files.check(rebuilds, read.backbone, read.channels)
        return rebuilds, "reconstruction", keys
    if not options.keep_head:
        return {}, "", {}
    head = inspecting.head_of(read.parts, {**inspecting.provenance_of(read.opened), **told})
    if head is None:
        raise WeightsError(f"{read.opened.path}: has no head; leave --keep-head out")
    targets.refuse_head(options.to, head.role, head.mlp)
    keys = {name: f"{read.parts.head_name}.{name}" for name in read.parts.head}
    return {name: value.float() for name, value in read.parts.head.items()}, head.role, keys


def _account(
    read: _Read, new_names: Mapping[str, tuple[str, str]], head_keys: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return what became of every key of a file, under its own names: the key that it is written as, or what it is dropped with.

    `head_keys` are the file's keys of the head that is kept, without wrappers.
    """
    parts, state = read.parts, read.opened.state
    in_file = {next(iter(formats.unwrapped({name: value}))): name for name, value in state.items()}
    _, origin = fitting.named(parts, read.backbone.state_dict().keys(), weights.heads_of(read.backbone))
    used: dict[str, str] = {}
    for new, (where, name) in new_names.items():
        key = head_keys.get(name, "") if where == targets.HEAD else f"{parts.prefix}{origin[name]}" if name in origin else ""
        if key in in_file:
            used[in_file[key]] = new
    belongs = {"head": parts.head_keys, **parts.dropped, **read.report.unused}
    left = {what: tuple(in_file[key] for key in keys if in_file[key] not in used) for what, keys in belongs.items()}
    dropped = {what: keys for what, keys in left.items() if keys}
    gone = {key for keys in dropped.values() for key in keys}
    translated = {name: "(by timm's translation of its makers' names)" for name in state if name not in used and name not in gone}
    return {**used, **translated}, dropped


def _other_types(parts: Parts) -> tuple[str, ...]:
    """Say of tensors that are stored in another type than networks have."""
    kinds = {str(value.dtype).removeprefix("torch.") for value in parts.backbone.values() if value.is_floating_point()}
    return tuple(f"{kind} -> float32" for kind in sorted(kinds - {"float32"}))


def _written(out: Path, made: targets.Made, new_names: Mapping[str, tuple[str, str]], backbone: torch.nn.Module) -> float:
    """Write aside, try the file, make it durable, rename it. Returns the largest difference of features."""
    aside = out.with_name(f".{os.getpid()}.tmp.{out.name}")
    try:
        _write(made, aside, out)
        difference = _tried(aside, made, new_names, backbone)
        aside.replace(out)
        folder = os.open(out.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        aside.unlink(missing_ok=True)
    return difference


def _write(made: targets.Made, aside: Path, out: Path) -> None:
    try:
        targets.write(made, aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
    # torch and safetensors say of a full disk what they say of every other fault of a write.
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"--out {out}: cannot be written ({error}); free some space, or name another place") from None


def _tried(file: Path, made: targets.Made, new_names: Mapping[str, tuple[str, str]], backbone: torch.nn.Module) -> float:
    """Load a written file into a fresh network of its format and compare: bits of every tensor, and features of a random image."""
    again = open_weights(file).state
    if again.keys() != made.state.keys() or not all(torch.equal(again[name], value) for name, value in made.state.items()):
        raise WeightsError(f"{file}: what was written reads back as something else; the disk or its memory is at fault")
    module = targets.fresh(made)
    module.load_state_dict(targets.as_its_readers_do(made, file), strict=True)
    if made.head:
        bare = replace(made, head={}, state={name: made.state[name] for name, (where, _) in new_names.items() if where == targets.BACKBONE})
        module = targets.fresh(bare)
        weights.load_matching(module, targets.inside(bare), what=str(file))
    difference = _difference(made, module, backbone)
    if not difference <= _TOLERANCE:
        raise WeightsError(
            f"--to {made.to}: the network that reads the file computes other features (by {difference:.2g}); nothing is written"
        )
    return difference


@torch.no_grad()
def _difference(made: targets.Made, module: torch.nn.Module, backbone: torch.nn.Module) -> float:
    """Return the largest difference of features over the largest feature, with BatchNorm's stored statistics and with those of the batch.

    Statistics that do not fit the weights, as of a network that was never trained, can quench every difference between images.
    """
    images = torch.randn(4, made.channels, *_size(backbone), generator=torch.Generator().manual_seed(0))
    found = 0.0
    for by_batch in (False, True):
        for part in (*module.modules(), *backbone.modules()):
            part.training = by_batch and isinstance(part, torch.nn.modules.batchnorm._BatchNorm)
        ours, theirs = backbone(images), targets.features_of(made, module, images)
        found = max(found, float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1.0)))
    return found


def _size(backbone: torch.nn.Module) -> tuple[int, int]:
    if (side := getattr(getattr(backbone, "patch_embed", None), "img_size", None)) is not None:
        return side
    described = dict(getattr(backbone, "pretrained_cfg", None) or {})
    if described.get("fixed_input_size"):
        _, height, width = described["input_size"]
        return int(height), int(width)
    return _TRIED_PX, _TRIED_PX


def _notes(report: weights.KeyReport, author: str, pool: str) -> list[str]:
    notes: list[str] = []
    if pool == backbones.POOL_AVG:
        notes.append("its network takes the mean of its patches and has a norm behind it: `pool: avg` here, global_pool='avg' in timm")
    if any("3 -> 1" in one for one in report.adapted):
        notes.append(
            "the weights of three channels are summed into one: it answers a grey image as three equal channels did, which is what training"
            " saw only if it normalised all three by one mean and sd (MoCo-CXR's pretraining does; ImageNet's three differ)"
        )
    if any("1 -> 3" in one for one in report.adapted):
        notes.append(
            "the weights of one channel are repeated and divided by three: three equal channels are answered to as the grey image was"
        )
    if author == "MoCo-CXR":
        notes.append("MoCo-CXR pretrains with mean .5020 and sd .085585 in every channel: `normalization: cxr` in a sweep")
    return notes
