"""Who wrote a state dict, told from its key names, and its parts: backbone, head, and what belongs to something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trainers.errors import WeightsError
from trainers.released.files import State

OURS = "cxr-orchestrator"
MOCO = "moco"
FINETUNED = "moco_cxr_finetuned"
LITE0 = "efficientnet_pytorch"
PLAIN = "plain"
#: What people call each.
TITLES: Mapping[str, str] = {
    OURS: "a checkpoint of this project",
    MOCO: "a pretraining checkpoint of MoCo",
    FINETUNED: "a fine-tuned checkpoint of MoCo-CXR",
    LITE0: "a network of the package efficientnet_pytorch",
    PLAIN: "a plain network (torchvision or timm)",
}
QUERY, KEY = "query", "key"
#: Heads of classifiers in files of no method: torchvision and timm, and the package that MoCo-CXR took its ResNets from.
HEADS = ("fc", "classifier", "last_linear", "head.fc", "head")
_MOCO_HEADS = ("fc", "classifier")
#: Of a head, and not of a block that has one in its name.
_OF_A_HEAD = re.compile(r"(\d\.)?(weight|bias)")
#: What a head is for: MoCo's projection, or labels. A head whose file does not say may be either.
PROJECTION, CLASSIFIER = "projection", "classifier"
#: What wrappers put in front of every key (DistributedDataParallel, torch.compile).
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A state dict taken apart. Names of the backbone and the head are those below them; every other key is in `dropped`."""

    kind: str
    backbone: State
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
    def head_keys(self) -> tuple[str, ...]:
        """Return the head's keys as the file has them, without wrappers."""
        return tuple(f"{self.head_name}.{name}" for name in self.head)


def unwrapped(state: Mapping[str, Tensor]) -> State:
    """Return a state dict without the prefixes of wrappers. Raises WeightsError when two keys then have one name."""
    plain: State = {}
    for name, value in state.items():
        short = name
        while short.startswith(_WRAPPERS):
            short = short.split(".", 1)[1]
        if short in plain:
            raise WeightsError(f"two keys are '{short}' without the prefixes of wrappers; save the state_dict of one model alone")
        plain[short] = value
    return plain


def kind_of(state: Mapping[str, Tensor]) -> str:
    """Tell who wrote a state dict from its key names."""
    names = list(unwrapped(state))
    if any(name.startswith(("encoder_q.", "encoder_k.")) for name in names):
        return MOCO
    if any(name.startswith("backbone.") for name in names):
        return OURS
    if any(name.startswith("model.") for name in names):
        return FINETUNED
    return LITE0 if "_conv_stem.weight" in names else PLAIN


def split(state: Mapping[str, Tensor], *, part: str = QUERY, heads: tuple[str, ...] = HEADS) -> Parts:
    """Take a state dict apart. `part` says which encoder of MoCo is wanted, `heads` what a plain network calls its head.

    Keys that belong to no known part stay in the backbone, where a strict load names them. Raises WeightsError when there is no such part.
    """
    kind, plain = kind_of(state), unwrapped(state)
    if part != QUERY and kind != MOCO:
        raise WeightsError(f"--part {part}: only checkpoints of MoCo have a key encoder, and this is {TITLES[kind]}; leave --part out")
    if kind == MOCO:
        return _moco(plain, part)
    if kind == OURS:
        return _parts(kind, plain, "backbone.", {"head": ("head.",)})
    if kind == FINETUNED:
        return _finetuned(plain)
    return _with_head(Parts(kind=kind, backbone=plain), ("_fc",) if kind == LITE0 else heads, CLASSIFIER)


def _parts(kind: str, plain: State, prefix: str, others: Mapping[str, tuple[str, ...]]) -> Parts:
    """Give each key to the backbone, or to one of `others` by how it begins; one of nobody stays in the backbone under its whole name."""
    backbone: State = {}
    strangers: State = {}
    dropped: dict[str, list[str]] = {}
    for name, value in plain.items():
        if name.startswith(prefix):
            backbone[name.removeprefix(prefix)] = value
            continue
        owner = next((what for what, starts in others.items() if name.startswith(starts)), None)
        if owner is None:
            strangers[name] = value
        else:
            dropped.setdefault(owner, []).append(name)
    if not any(name.startswith(prefix) for name in plain):
        raise WeightsError(f"{TITLES[kind]} without a key '{prefix}*': what is asked for is not in it; name another file or --part")
    if both := [name for name in strangers if name in backbone]:
        raise WeightsError(f"'{both[0]}' is there with and without '{prefix}'; save the state_dict of one model alone")
    backbone |= strangers
    head_keys = dropped.pop("head", [])
    role = "" if kind == OURS else CLASSIFIER
    head_name = head_keys[0].split(".")[0] if head_keys else ""
    head = {name.removeprefix(f"{head_name}."): plain[name] for name in head_keys}
    if kind == OURS and any("." in name for name in head):
        role = PROJECTION
    return Parts(
        kind=kind,
        backbone=backbone,
        head=head,
        head_name=head_name,
        head_role=role if head else "",
        dropped={what: tuple(names) for what, names in dropped.items()},
        prefix=prefix,
    )


def _moco(plain: State, part: str) -> Parts:
    mine, other = ("encoder_q.", "encoder_k.") if part == QUERY else ("encoder_k.", "encoder_q.")
    whose = "key encoder" if part == QUERY else "query encoder"
    found = _parts(MOCO, plain, mine, {whose: (other,), "queue": ("queue",)})
    return _with_head(found, _MOCO_HEADS, PROJECTION)


def _finetuned(plain: State) -> Parts:
    """Take apart a network of MoCo-CXR's second stage: ResNets keep an unused ImageNet head inside and have the task's head outside."""
    found = _parts(FINETUNED, plain, "model.", {"head": ("fc.",)})
    if not found.head:
        return _with_head(found, HEADS, CLASSIFIER)
    unused = [name for name in found.backbone if name.startswith(("last_linear.", "fc."))]
    kept = {name: value for name, value in found.backbone.items() if name not in unused}
    dropped = {**found.dropped, **({"unused ImageNet head": tuple(f"model.{name}" for name in unused)} if unused else {})}
    return Parts(
        kind=found.kind, backbone=kept, head=found.head, head_name="fc", head_role=CLASSIFIER, dropped=dropped, prefix=found.prefix
    )


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
    return Parts(kind=parts.kind, backbone=kept, head=head, head_name=head_name, head_role=role, dropped=parts.dropped, prefix=parts.prefix)


def _holds(state: State, prefix: str) -> bool:
    """Tell whether a state dict has a head below a prefix, and nothing else there."""
    below = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    return bool(below) and all(_OF_A_HEAD.fullmatch(name) for name in below)
