"""Who wrote a state dict, told from its key names, and its parts: backbone, head, and what belongs to something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from torch import Tensor

from trainers.errors import WeightsError
from trainers.released.files import State
from trainers.released.published import BY_KIND, FORMATS, HEADS, OURS, PROJECTION, SEVERAL, Format

#: Of a head, and not of a block that has one in its name.
_OF_A_HEAD = re.compile(r"(\d\.)?(weight|bias)")
#: What wrappers put in front of every key (DistributedDataParallel, torch.compile), inside an entry where a file has several.
_ENTRIES = "|".join(dict.fromkeys(entry for group in SEVERAL for entry in group if entry != "model"))
_WRAPPED = re.compile(rf"((?:{_ENTRIES})\.)?(?:module\.|_orig_mod\.)+")
_UNUSED_HEAD = "unused ImageNet head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A state dict taken apart. Names of the backbone and the head are those below them; every other key is in `dropped`."""

    kind: str
    backbone: State
    #: Which network of a file that has several; empty where it has one.
    part: str = ""
    #: `weight` and `bias` of one layer, or `0.weight` ... `2.bias` of two.
    head: State = field(default_factory=dict)
    #: What the file calls the head; empty where there is none.
    head_name: str = ""
    head_role: str = ""
    #: What a key belongs to -> the keys, as the file has them.
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: What stood in front of each name of the backbone, without wrappers.
    prefix: str = ""

    @property
    def format(self) -> Format:
        """Return what is known of files of this kind."""
        return BY_KIND[self.kind]

    @property
    def called(self) -> str:
        """Return what the network that was taken is called."""
        return self.format.parts[self.part].called

    @property
    def head_keys(self) -> tuple[str, ...]:
        """Return the head's keys as the file has them, without wrappers."""
        return tuple(f"{self.head_name}.{name}" for name in self.head)


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """Return a state dict without the prefixes of wrappers. Raises WeightsError when two keys then have one name."""
    plain: State = {}
    for name, value in state.items():
        short = _WRAPPED.sub(r"\1", name, count=1) if "module." in name or "_orig_mod." in name else name
        if short in plain:
            raise WeightsError(f"two keys are '{short}' without the prefixes of wrappers; save the state_dict of one model alone")
        plain[short] = value
    return plain


def kind_of(state: Mapping[str, Tensor]) -> str:
    """Tell who wrote a state dict from its key names."""
    return _format_of(list(unwrapped(state))).kind


def _format_of(names: list[str]) -> Format:
    return next(one for one in FORMATS if all(any(name.startswith(group) for name in names) for group in one.signs))


def split(state: Mapping[str, Tensor], *, part: str = "", heads: tuple[str, ...] = HEADS) -> Parts:
    """Take a state dict apart. `part` says which network of several is wanted, `heads` what a plain network calls its head.

    Keys that belong to no known part stay in the backbone, where a strict load names them. Raises WeightsError when there is no such part.
    """
    plain = unwrapped(state)
    form = _format_of(list(plain))
    part = _wanted(form, part)
    others = {one.called: (one.prefix,) for name, one in form.parts.items() if name != part}
    found = _inner(_outer(form, part, plain, {**others, **form.beside}))
    inner = heads if form.heads is None else form.heads
    return _unused(found, inner) if found.head else _with_head(found, inner, form.head_role)


def _wanted(form: Format, part: str) -> str:
    """Return the part that is asked for, or the first. Raises WeightsError when the format has no such part."""
    if part and part not in form.parts:
        named = [name for name in form.parts if name]
        has = f"has {' and '.join(named)}: name one of them" if named else "has one network: leave it out"
        raise WeightsError(f"there is no part '{part}' in {form.title}, which {has}")
    return part or next(iter(form.parts))


def _outer(form: Format, part: str, plain: State, others: Mapping[str, tuple[str, ...]]) -> Parts:
    """Give each key to the backbone, or to one of `others` by how it begins; one of nobody stays in the backbone under its whole name."""
    prefix = form.parts[part].prefix
    backbone: State = {}
    strangers: State = {}
    dropped: dict[str, list[str]] = {}
    for name, value in plain.items():
        owner = next((what for what, starts in others.items() if name.startswith(starts)), None)
        if owner is not None:
            dropped.setdefault(owner, []).append(name)
        elif name.startswith(prefix):
            backbone[name.removeprefix(prefix)] = value
        else:
            strangers[name] = value
    if not backbone:
        raise WeightsError(f"{form.title} without a key '{prefix}*': what is asked for is not in it; name another file or another part")
    if both := [name for name in strangers if name in backbone]:
        raise WeightsError(f"'{both[0]}' is there with and without '{prefix}'; save the state_dict of one model alone")
    backbone |= strangers
    head_keys = dropped.pop("head", [])
    head_name = head_keys[0].split(".")[0] if head_keys else ""
    head = {name.removeprefix(f"{head_name}."): plain[name] for name in head_keys}
    role = PROJECTION if form.kind == OURS and any("." in name for name in head) else form.head_role
    return Parts(
        kind=form.kind,
        part=part,
        backbone=backbone,
        head=head,
        head_name=head_name,
        head_role=role if head else "",
        dropped={what: tuple(names) for what, names in dropped.items()},
        prefix=prefix,
    )


def _inner(parts: Parts) -> Parts:
    """Take out of the backbone what its format says is none of it."""
    gone = {
        owner: tuple(name for name in parts.backbone if any(fnmatchcase(name, pattern) for pattern in patterns))
        for owner, patterns in parts.format.inside.items()
    }
    return without(parts, gone)


def without(parts: Parts, gone: Mapping[str, tuple[str, ...]]) -> Parts:
    """Return parts whose backbone is without some names, each with what it belongs to."""
    gone = {owner: names for owner, names in gone.items() if names}
    leaving = {name for names in gone.values() for name in names}
    dropped = {**parts.dropped, **{owner: tuple(f"{parts.prefix}{name}" for name in names) for owner, names in gone.items()}}
    kept = {name: value for name, value in parts.backbone.items() if name not in leaving}
    return replace(parts, backbone=kept, dropped=dropped)


def _unused(parts: Parts, heads: tuple[str, ...]) -> Parts:
    """Take a head out of a backbone that has the task's head outside (ResNets of MoCo-CXR's second stage keep their ImageNet head)."""
    inside = tuple(f"{head}." for head in heads if _holds(parts.backbone, f"{head}."))
    return without(parts, {_UNUSED_HEAD: tuple(name for name in parts.backbone if inside and name.startswith(inside))})


def _with_head(parts: Parts, heads: tuple[str, ...], role: str) -> Parts:
    """Return parts whose head, the first of `heads` that has keys, is out of the backbone."""
    name = next((head for head in heads if _holds(parts.backbone, f"{head}.")), None)
    if name is None:
        return parts
    inside = f"{name}."
    head = {key.removeprefix(inside): value for key, value in parts.backbone.items() if key.startswith(inside)}
    # A Dropout in front of one layer (torchvision's MNASNet) is no second layer.
    if {key.split(".")[0] for key in head} == {"1"}:
        head_name, head = f"{parts.prefix}{name}.1", {key.removeprefix("1."): value for key, value in head.items()}
    else:
        head_name = f"{parts.prefix}{name}"
    kept = {key: value for key, value in parts.backbone.items() if not key.startswith(inside)}
    return replace(parts, backbone=kept, head=head, head_name=head_name, head_role=role)


def _holds(state: State, prefix: str) -> bool:
    """Tell whether a state dict has a head below a prefix, and nothing else there."""
    below = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    return bool(below) and all(_OF_A_HEAD.fullmatch(name) for name in below)
