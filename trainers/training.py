"""The train stage: data opened, method built, loop run, validation numbers kept beside each checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from trainers.api import Host, Outcome, Overlaps, Parent, Predicted, Setup, Solver, Source, Validated
from trainers.data.access import Access
from trainers.data.cards import Card, load_card
from trainers.data.open import open_data
from trainers.errors import Diverged, Error
from trainers.loop import fit, prepare
from trainers.parts import overlaps
from trainers.parts.metrics import aggregate, measure, nonfinite
from trainers.processes import Group, joined
from trainers.sources import measured_by_source


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """Which data a stage wants, and how it may be opened."""

    sources: tuple[Mapping[str, Any], ...]
    draw: Mapping[str, Any] | None
    #: (data reference, the card's name for its place) -> the folder on this machine.
    roots: Callable[[Mapping[str, Any], str], Path]
    cache: Path
    is_open: Callable[[str], bool]
    card_paths: tuple[Path, ...] = ()

    def card(self, source: Mapping[str, Any]) -> Card:
        """Return the card that a data reference names."""
        return load_card(source["card"], self.card_paths)

    def open(self, source: Mapping[str, Any]) -> Access:
        """Open one source behind the gate of the stage."""
        return open_data(
            source,
            self.draw,
            roots=lambda place: self.roots(source, place),
            cache=self.cache,
            is_open=self.is_open,
            card_paths=self.card_paths,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """All that the train stage needs, with no word of schedulers or job files."""

    method: ModuleType
    config: Any
    seed: int
    threads: int
    gpus: int
    data: DataRequest
    parents: Mapping[str, Parent] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)
    #: {metric, mode}: which checkpoint is worth keeping besides the last; None keeps the last alone.
    monitor: Mapping[str, str] | None = None
    #: The processes that train this model together; None is this one alone.
    group: Group | None = None


def device_for(gpus: int, local_rank: int | None = None) -> torch.device:
    """Return the device of a job that asked for GPUs, of which each of its processes on a machine takes its own, by `local_rank`.

    Raises Error when it asked for a GPU and sees none, or not enough of them.
    """
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise Error(
            f"resources.gpus: the job asks for {gpus} GPU(s) and torch sees none on this machine: write `gpus: 0` under the phase's "
            "`resources`, or take a machine with a GPU"
        )
    if local_rank is None:
        return torch.device("cuda")
    seen = torch.cuda.device_count()
    # A scheduler may show each process the one GPU that is its own.
    index = 0 if seen == 1 else local_rank
    if index >= seen:
        raise Error(f"resources.gpus: {gpus} GPUs were asked for and process {local_rank} of this machine sees {seen}: ask for {seen}")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def train(request: TrainRequest, host: Host) -> tuple[Outcome, dict[str, Any]]:
    """Train one model and return the loop's outcome and the content of the result: config, labels, data used, final metrics.

    Where a method has `facts()`, a mapping, the result holds that too; where it has `captions`, what its pictures show.

    Of a group, the first process builds its method first, so that the others find prepared what it had to prepare, and not all of them
    decode the same images. A solver needs no others: the first process lets them go.
    """
    group = request.group
    device = device_for(request.gpus, None if group is None else group.local_rank)
    prepare(request.seed, request.threads, device)
    port = group.find() if group is not None and group.find is not None else 0
    opened = [request.data.open(source) for source in request.data.sources]
    cards = {access.card: request.data.card(source) for access, source in zip(opened, request.data.sources, strict=True)}
    if len(cards) < len(opened):
        raise Error(f"sources: a card is named twice among {', '.join(access.card for access in opened)}; name each once")
    known = tuple(dict.fromkeys(name for access in opened for name in access.label_names))
    setup = Setup(
        config=request.config,
        seed=request.seed,
        data=opened[0],
        sources=tuple(opened),
        parents=request.parents,
        weights=request.weights,
        device=device,
        labels=tuple(getattr(request.config, "labels", ()) or known),
        learnt_from={access.card: Source(labels=access.label_names, task=access.task) for access in opened},
    )
    method = request.method.build(setup)
    if group is not None and group.announce is not None and isinstance(method, Solver):
        group.announce(None)
        group = None
    with joined(group, port, device):
        outcome = fit(
            method,
            request.config,
            host,
            device=device,
            measure=partial(measured_scores, cards, {access.card: access.policies for access in opened}),
            monitor=request.monitor,
            prefetch=device.type == "cuda",
        )
    result = {
        "config": asdict(request.config),
        "labels": list(setup.labels),
        "metrics": dict(outcome.metrics),
        "steps": outcome.step,
        "epochs": outcome.epoch,
        "data": [used(access) for access in opened],
        # Only of methods that have several, so that other results are what they were.
        **({"learnt_from": _described(setup)} if len(opened) > 1 or getattr(method, "by_source", False) else {}),
        **(method.facts() if hasattr(method, "facts") else {}),  # pyright: ignore[reportAttributeAccessIssue]
        **captions_of(method),
    }
    return outcome, result


def captions_of(method: Any) -> dict[str, dict[str, str]]:
    """Return `captions`, what a method says that its pictures show, by name; nothing where it says nothing."""
    captions = getattr(method, "captions", None)
    return {"captions": dict(captions)} if captions else {}


def _described(setup: Setup) -> dict[str, Any]:
    return {card: {"labels": list(source.labels), "task": source.task} for card, source in setup.learnt_from.items()}


def measured_scores(cards: Mapping[str, Card], policies: Mapping[str, Mapping[str, str]], scores: Validated) -> dict[str, float]:
    """Measure validation scores of the first card, or those of each source by itself. Raises Diverged when a score is not finite."""
    if isinstance(scores, Mapping):
        return measured_by_source(lambda card, one: measured(cards[card], policies[card], one), scores)
    first = next(iter(cards))
    return measured(cards[first], policies[first], scores)


def measured(card: Card, policies: Mapping[str, str], scores: Predicted) -> dict[str, float]:
    """Measure validation scores in the card's unit (CheXpert: the study, by the maximum logit over its views); masks image by image.

    Raises Diverged when a score is not finite.
    """
    if isinstance(scores, Overlaps):
        return overlaps.measure(scores, prefix="val")
    if fault := nonfinite(scores):
        raise Diverged(f"validation: {fault}; lower lr, set grad_clip, or set precision: fp32")
    units = aggregate(scores, card.score_per, card.views)
    return measure(units, card.groups, prefix="val", policies=policies, one_class=card.task == "multiclass")


def used(access: Access) -> dict[str, Any]:
    """Describe what of a data set was opened: counts by split, the draw, whose digest tells whether two arms saw the same one, and what
    was left out because its image is missing.
    """
    splits = {split: {"images": len(rows), "patients": len(set(rows.patients.tolist()))} for split, rows in sorted(access.opened.items())}
    facts = access.draw_facts()
    # Only where it was asked for, so that results from before are what they were.
    left_out = access.left_out()
    skipped = {} if left_out is None else {"left_out": dict(left_out)}
    # Features of packed jobs are those of whole splits, without their labels.
    pooled = {"features": found} if (found := access.pooled()) else {}
    return {"card": access.card, "splits": splits, "draw": dict(facts) if facts is not None else None, **skipped, **pooled}
