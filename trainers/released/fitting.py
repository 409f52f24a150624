"""A backbone's part of a file under the names of the network that is to take it, what of it no network wants, and what was resized."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from trainers.released import formats, names, positions
from trainers.released.files import State
from trainers.released.formats import Parts

#: What older networks store and today's compute when they are built.
_COMPUTED = ("*relative_position_index", "*attn_mask", "*relative_coords_table")
_SECOND_HEADS = ("head_dist.*",)


def is_computed(name: str) -> bool:
    """Tell a table that older networks store and today's compute."""
    return bool(_matching((name,), _COMPUTED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a network is given."""

    #: Under the network's names.
    state: State
    #: What keys of the backbone belong to that are not given -> the keys, as the file has them.
    dropped: Mapping[str, tuple[str, ...]]
    #: What may stay as the network was built it, as patterns.
    allowed_missing: tuple[str, ...]
    #: What was changed, in words.
    adapted: tuple[str, ...] = ()


def named(parts: Parts, own: Collection[str], heads: tuple[str, ...] = ()) -> tuple[Fitted, dict[str, str]]:
    """Return a backbone's keys under the names `own` of a network, and where each comes from (its name below the part's prefix).

    `heads` is what the network calls its classifiers; a second one (of a distilled network) is dropped.
    """
    # What a network itself has is never dropped.
    lacking = [name for name in parts.backbone if name not in own]
    second = (*_SECOND_HEADS, *(f"{head}.*" for head in heads if parts.format.heads is None))
    gone = {"tables that are computed": _matching(lacking, _COMPUTED), "second head": _matching(lacking, second)}
    missing: list[str] = []
    for norm, instead in parts.format.norms.items():
        if _matching(own, (instead,)) and not _matching(own, (norm,)) and not _matching(parts.backbone, (instead,)):
            gone["norm in front of pooling"] = _matching(lacking, (norm,))
            missing.append(instead)
    kept = formats.without(parts, gone)
    renamed = names.to_timm(kept.backbone, own)
    state = {renamed[name]: value for name, value in kept.backbone.items()}
    origin = {renamed[name]: name for name in kept.backbone}
    for shared, each in parts.format.shared.items():
        if shared not in state or shared in own:
            continue
        for name in _matching(own, (each,)):
            state[name], origin[name] = state[shared], origin[shared]
        if _matching(own, (each,)):
            del state[shared], origin[shared]
    new = {owner: keys for owner, keys in kept.dropped.items() if keys != parts.dropped.get(owner)}
    return Fitted(state=state, dropped=new, allowed_missing=tuple(missing)), origin


def fitted(parts: Parts, network: nn.Module, heads: tuple[str, ...] = ()) -> Fitted:
    """Return what a network is given of a file: under its own names, its positions of the network's sizes."""
    own = network.state_dict().keys()
    found, _ = named(parts, own, heads)
    state, adapted = positions.adapted(found.state, network, parts.format.tables)
    if parts.format.by_timm and state.keys() != own:
        # timm would also make patches of another size of a file's without a word.
        stems = {name: value for name, value in state.items() if name.endswith("patch_embed.proj.weight") and value.dim() == 4}
        rest = {name: value for name, value in state.items() if name not in stems}
        state = {**names.filtered_by_timm(rest, network), **stems}
    return Fitted(state=state, dropped=found.dropped, allowed_missing=found.allowed_missing, adapted=adapted)


def _matching(found: Collection[str], patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in found if any(fnmatchcase(name, pattern) for pattern in patterns))
