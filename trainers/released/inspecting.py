"""What a weights file is: format, architecture, head, what its name says, and whether the two agree."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released import architectures, file_names, fitting, formats
from trainers.released.files import Opened, open_weights, sha256_of
from trainers.released.formats import Parts
from trainers.released.names import timm_arch
from trainers.released.published import BY_KIND, CLASSIFIER, MOCO, PROJECTION
from trainers.released.targets import PROVENANCE

#: What each code trains MoCo with unless it is told otherwise: keys in the queue, the optimizer's memory.
_QUEUES: Mapping[int, str] = {24576: "MoCo-CXR", 65536: "facebookresearch"}
_MEMORY: Mapping[str, str] = {"exp_avg": "MoCo-CXR", "momentum_buffer": "facebookresearch"}
#: MoCo-CXR divides the learning rate by ten at these epochs, counted from 0, however many there are.
_MILESTONES = (12, 18, 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What sits on a backbone in a file."""

    name: str
    #: `projection`, `classifier`, or empty where the file does not say.
    role: str
    #: (inputs, outputs) of each layer.
    layers: tuple[tuple[int, int], ...]

    @property
    def mlp(self) -> bool:
        """Tell a head with a hidden layer."""
        return len(self.layers) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a weights file holds, and what its name says of it."""

    path: str
    file_bytes: int
    sha256: str
    container: str
    kind: str
    title: str
    #: Whose code wrote a file of MoCo, by its settings; empty where they do not say.
    written_by: str = ""
    #: The architectures with these names and shapes: none, one, or several.
    arch: tuple[str, ...] = ()
    stated_arch: str = ""
    #: `avg` where it takes the mean of patches, which its architecture does not by itself.
    pool: str = backbones.POOL_ARCH
    epoch: int | None = None
    #: The learning rate at the moment of writing, where an optimizer is beside the weights.
    lr: float | None = None
    head: Head | None = None
    channels: int = 0
    tensors: int = 0
    parameters: int = 0
    backbone_parameters: int = 0
    #: What tensors belong to -> how many.
    parts: Mapping[str, int] = field(default_factory=dict)
    #: Names of what else is in the file.
    beside: tuple[str, ...] = ()
    #: Tensors with values that are not finite.
    not_finite: int = 0
    name: file_names.Named | None = None
    #: Where name and content say different things.
    disagreements: tuple[str, ...] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        written = asdict(self)
        written["name"] = None if self.name is None else self.name.as_json()
        if self.head is not None:
            written["head"]["mlp"] = self.head.mlp
        return written


def inspect(path: Path, told: Mapping[str, Any] | None = None) -> Summary:
    """Say what a weights file holds. Raises WeightsError when it holds none.

    `told` is what is known of the file from elsewhere, of a checkpoint of this project from its job: `arch`, `epoch`, `lr`, `trainer`.
    """
    told = told or {}
    opened = open_weights(path)
    parts = parts_of(opened)
    made_from = provenance_of(opened)
    stated = stated_arch(opened, told)
    found = architectures.recognise(parts, timm_arch(stated))
    head = head_of(parts, told)
    name = file_names.decode(path.name)
    epoch, lr = _epoch(opened, told), stored_lr(opened, told)
    return Summary(
        path=str(path),
        file_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        container=opened.container + _within(opened),
        kind=parts.kind,
        title=parts.format.title,
        written_by=written_by(opened, parts),
        arch=found,
        stated_arch=stated,
        pool=architectures.pool_of(parts, found[0]) if found else backbones.POOL_ARCH,
        epoch=epoch,
        lr=lr,
        head=head,
        channels=architectures.stem_of(parts.backbone)[1],
        tensors=len(opened.state),
        parameters=_count(opened.state),
        backbone_parameters=_count(parts.backbone, counters=False),
        parts=_counts(parts),
        beside=(*(key for key in opened.beside if key != PROVENANCE), *opened.without_tensor),
        not_finite=sum(value.is_floating_point() and not bool(value.isfinite().all()) for value in opened.state.values()),
        name=name,
        disagreements=tuple(_disagreements(name, stated, found, epoch, lr, head)),
        made_from=made_from,
    )


def _within(opened: Opened) -> str:
    return f", in {' and '.join(repr(entry) for entry in opened.entries)}" if opened.entries else ""


def parts_of(opened: Opened, part: str = "") -> Parts:
    """Take a file apart; one that has not the first of its format's parts is taken by the part that it has. Raises WeightsError."""
    try:
        return formats.split(opened.state, part=part)
    except WeightsError as error:
        others = () if part else BY_KIND[formats.kind_of(opened.state)].parts
        for other in list(others)[1:]:
            with contextlib.suppress(WeightsError):
                return formats.split(opened.state, part=other)
        raise WeightsError(f"{opened.path}: {error}") from None


def stated_arch(opened: Opened, told: Mapping[str, Any]) -> str:
    """Return the architecture that a file, or who knows of it, names; MoCo-CXR's fine-tuned files name a class."""
    found = told.get("arch") or provenance_of(opened).get("arch") or opened.beside.get("arch") or opened.beside.get("model_name") or ""
    return found if isinstance(found, str) else ""


def head_of(parts: Parts, told: Mapping[str, Any] | None = None) -> Head | None:
    """Return what sits on a backbone, or None."""
    weights = [value for name, value in sorted(parts.head.items()) if name.endswith("weight") and value.dim() == 2]
    if not weights:
        return None
    role = parts.head_role
    if not role and told:
        by_trainer = {"moco_cxr": PROJECTION, "classification": CLASSIFIER}
        role = by_trainer.get(str(told.get("trainer")), str(told.get("head_role", "")))
    return Head(name=parts.head_name, role=role, layers=tuple((int(value.shape[1]), int(value.shape[0])) for value in weights))


def written_by(opened: Opened, parts: Parts) -> str:
    """Return whose code wrote a file of MoCo, where everything that tells them apart agrees; the layouts are the same."""
    if parts.kind != MOCO:
        return ""
    votes = {"MoCo-CXR"} if parts.head_name.partition(".")[2].startswith("classifier") else set()
    queue = next((value for name, value in opened.state.items() if name.endswith("queue")), None)
    if queue is not None and queue.dim() == 2:
        votes.add(_QUEUES.get(int(queue.shape[1]), ""))
    optimizer = opened.beside.get("optimizer")
    memory = next(iter(optimizer.get("state", {}).values()), {}) if isinstance(optimizer, Mapping) else {}
    votes |= {who for name, who in _MEMORY.items() if name in memory}
    return next(iter(votes)) if len(votes) == 1 else ""


def stored_lr(opened: Opened, told: Mapping[str, Any]) -> float | None:
    """Return the learning rate of the optimizer that is beside the weights, or of the job."""
    optimizer = opened.beside.get("optimizer")
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    found = groups[0].get("lr") if isinstance(groups, list) and groups and isinstance(groups[0], Mapping) else told.get("lr")
    return float(found) if isinstance(found, (int, float)) else None


def _epoch(opened: Opened, told: Mapping[str, Any]) -> int | None:
    inside = opened.beside.get("ckpt_info")
    sources = (opened.beside, inside if isinstance(inside, Mapping) else {}, told, provenance_of(opened))
    found = next((source["epoch"] for source in sources if source.get("epoch") is not None), None)
    return int(found) if isinstance(found, (int, float)) else None


def provenance_of(opened: Opened) -> Mapping[str, Any]:
    """Return what a file that `convert` wrote says of where it comes from."""
    written = opened.beside.get(PROVENANCE)
    try:
        found = json.loads(written) if isinstance(written, str) else written
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _count(state: Mapping[str, torch.Tensor], *, counters: bool = True) -> int:
    counted = (name for name, value in state.items() if value.is_floating_point() and not fitting.is_computed(name))
    return sum(state[name].numel() for name in counted if counters or ".running_" not in name)


def _counts(parts: Parts) -> dict[str, int]:
    counts = {parts.called: len(parts.backbone), "head": len(parts.head), **{what: len(keys) for what, keys in parts.dropped.items()}}
    return {what: count for what, count in counts.items() if count}


def _disagreements(
    name: file_names.Named | None, stated: str, found: tuple[str, ...], epoch: int | None, lr: float | None, head: Head | None
) -> Iterator[str]:
    """Yield a sentence for each thing that the file's name, its own words and its tensors say differently."""
    shapes = " or ".join(found)
    if stated and found and timm_arch(stated) not in found:
        yield f"the file says {stated}, its shapes are those of {shapes}"
    if name is None:
        return
    if name.arch and found and name.arch not in found:
        yield f"the name says {name.arch}, the shapes are those of {shapes}"
    if name.epoch and epoch is not None and name.epoch != epoch:
        yield f"the name says epoch {name.epoch}, the file epoch {epoch}"
    if name.mlp is not None and head is not None and name.mlp != head.mlp:
        yield f"the name says a head {_hidden(name.mlp)} a hidden layer, the file's is one {_hidden(head.mlp)}"
    if name.lr is not None and lr is not None and not _on_the_schedule(name.lr, lr, epoch):
        yield f"the name says lr {name.lr:g}, the optimizer's is {lr:g}, which no schedule of MoCo-CXR makes of it by epoch {epoch or '?'}"


def _hidden(mlp: bool) -> str:
    return "with" if mlp else "without"


def _on_the_schedule(base: float, lr: float, epoch: int | None) -> bool:
    """Tell whether a learning rate is what MoCo-CXR's schedules make of another: steps at fixed epochs, or a quarter of a cosine."""
    if 0.85 <= lr / base <= 1:
        return True
    drops = range(1, len(_MILESTONES) + 1) if epoch is None else [sum(epoch - 1 >= milestone for milestone in _MILESTONES)]
    return any(math.isclose(lr, base * 0.1**drop, rel_tol=1e-6) for drop in drops)
