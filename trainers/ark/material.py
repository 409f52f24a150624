"""What Ark learns from: the images of all sources in one list, their targets in one table, and the order in which steps take them."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.api import Setup, Source
from trainers.ark.config import Config
from trainers.ark.views import Look, views
from trainers.data.access import Access, ImageStore, Rows
from trainers.data.policies import targets
from trainers.data.sides import side_of
from trainers.data.streams import key
from trainers.errors import DataError, Error
from trainers.sources import number_of, refuse_source

_LOG = logging.getLogger(__name__)
_ORDER, _CYCLE = 21, 22
_CARD = "card"
#: Value of `only` that leaves no source out.
ALL_SOURCES = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an optimizer step takes: images by their number in the list of all, and the sources that they are of."""

    images: NDArray[np.int64]
    sources: tuple[int, ...]


class Material:
    """The training images of several sources. Raises DataError or Error naming the source that cannot be learnt from."""

    def __init__(self, setup: Setup) -> None:
        self.config: Config = setup.config
        self.seed = setup.seed
        self.accesses: tuple[Access, ...] = tuple(access for access in setup.sources if access.card in learnt(setup))
        for access in self.accesses:
            _refuse(access, self.config)
        _refuse_other_names(self.config, [access.card for access in self.accesses])
        side = side_of(self.config.px, self.config.crop_pct)
        self.stores: list[ImageStore] = [access.images(side) for access in self.accesses]
        self._numbers = [number_of(access.card) for access in self.accesses]
        rows = [access.rows("train") for access in self.accesses]
        #: Of every image: its source, and its position there.
        self.source = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        self.position = np.concatenate([one.position for one in rows])
        widths = [len(access.label_names) for access in self.accesses]
        ends = np.cumsum(widths).tolist()
        #: Which columns of the table of targets are a source's.
        self.columns = [slice(end - width, end) for end, width in zip(ends, widths, strict=True)]
        #: 1, 0, a soft target, or NaN where nothing is known, and wherever another source's labels are.
        self.targets = np.full((len(self.position), ends[-1]), np.nan, np.float32)
        for index, (one, access) in enumerate(zip(rows, self.accesses, strict=True)):
            self.targets[self.source == index, self.columns[index]] = targets(one, policies_of(access, self.config))
            if is_exclusive(access.task, self.config):
                _refuse_other_classes(access.card, one)

    @cached_property
    def passes(self) -> tuple[NDArray[np.int64], ...]:
        """Return the images of each pass of a cycle: those of a source, or all of them mixed."""
        if self.config.mode == "concurrent":
            return (np.arange(len(self.source)),)
        return tuple(np.flatnonzero(self.source == index) for index in range(len(self.accesses)))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Return how many steps each pass has: whole batches; a source smaller than a batch is one batch."""
        return tuple(max(1, len(one) // self.config.batch_size) for one in self.passes)

    def order(self, epoch: int) -> list[int]:
        """Return in which order a cycle takes its passes."""
        order = np.arange(len(self.passes))
        return (_generator(self.seed, _CYCLE, epoch).permutation(order) if self.config.order == "shuffled" else order).tolist()

    def starts(self, epoch: int) -> list[int]:
        """Return at which steps of a cycle its passes start, in its order."""
        return [0, *np.cumsum([self.steps[index] for index in self.order(epoch)][:-1]).tolist()]

    def cycle(self, epoch: int, start: int = 0) -> Iterator[Step]:
        """Yield the steps of a cycle from step `start`, a pure function of (seed, epoch)."""
        passed = 0
        for index in self.order(epoch):
            steps = self.steps[index]
            if start < passed + steps:
                yield from self._pass(index, epoch, max(start - passed, 0))
            passed += steps

    def _pass(self, index: int, epoch: int, start: int) -> Iterator[Step]:
        mine = self.passes[index]
        number = self._numbers[index] if self.config.mode != "concurrent" else 0
        shuffled = mine[_generator(self.seed, _ORDER, epoch, number).permutation(len(mine))]
        size = min(self.config.batch_size, len(mine))
        for step in range(start, self.steps[index]):
            here = shuffled[step * size : (step + 1) * size]
            yield Step(images=here, sources=tuple(sorted(set(self.source[here].tolist()))))

    def views(self, images: NDArray[np.int64], epoch: int, look: Look, part: slice = slice(None)) -> Tensor:
        """Return one view of each image, uint8 (n, 1, px, px), of whatever sources they are."""
        here = images[part]
        found = np.empty((len(here), 1, look.px, look.px), np.uint8)
        for source in sorted(set(self.source[here].tolist())):
            where = np.flatnonzero(self.source[here] == source)
            positions = self.position[here[where]]
            found[where] = views(self.stores[source], positions, look, seed=self.seed, epoch=epoch, source=self._numbers[source])
        return torch.from_numpy(found)

    def learnt(self, step: Step, exclusive: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Return targets (B, L) without gaps, and weights (B, L) with which a sum over a part of the batch, over its images, is a mean.

        In turn, the loss of a batch is the mean over its known entries; mixed, it is the mean over images of the mean over each one's
        known labels, as in Ark+'s Concurrent. Of classes that exclude each other (`exclusive`) an image is one entry.
        """
        target = self.targets[step.images]
        weights = np.zeros_like(target)
        for source in step.sources:
            mine = np.ix_(self.source[step.images] == source, np.arange(target.shape[1])[self.columns[source]])
            known = ~np.isnan(target[mine])
            if exclusive[source]:
                known = np.repeat(known.all(axis=1, keepdims=True), known.shape[1], axis=1) / known.shape[1]
            if self.config.mode == "concurrent":
                weights[mine] = known / np.maximum(known.sum(axis=1, keepdims=True), 1)
            else:
                weights[mine] = known * (len(known) / max(float(known.sum()), 1))
        return torch.from_numpy(np.nan_to_num(target)), torch.from_numpy(weights)


def learnt(setup: Setup) -> dict[str, Source]:
    """Return the sources that are learnt from. Raises Error when `only` names none of them."""
    only: str = setup.config.only
    if only == ALL_SOURCES:
        return dict(setup.learnt_from)
    if only not in setup.learnt_from:
        near = difflib.get_close_matches(only, setup.learnt_from, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(setup.learnt_from)}"
        raise Error(f"config.only: there is no source '{only}'; {hint}")
    return {only: setup.learnt_from[only]}


def is_exclusive(task: str, config: Config) -> bool:
    """Tell whether the labels of a card are learnt as the classes of one softmax."""
    return config.loss == "auto" and task == "multiclass"


def policies_of(access: Access, config: Config) -> Mapping[str, str]:
    """Return the label policies of a source: its card's, or what the config says of uncertain labels in their place."""
    uncertain = config.uncertain_of.get(access.card, config.uncertain)
    if uncertain == _CARD:
        return access.policies
    return {name: value for name, value in access.policies.items() if not name.startswith("uncertain/")} | {"uncertain": uncertain}


def _generator(*parts: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def _refuse(access: Access, config: Config) -> None:
    """Raise DataError when a source cannot be learnt from and validated."""
    refuse_source(access, "ark")
    if config.bn_images and len(access.rows("train")) < config.bn_images and config.mode != "concurrent":
        few = len(access.rows("train"))
        raise Error(f"config.bn_images: {config.bn_images} is more than the {few} training images of source '{access.card}': lower it")


def _refuse_other_classes(card: str, rows: Rows) -> None:
    """Raise DataError when an image of a multi-class source has several classes, or none."""
    counts = (rows.labels == 1).sum(axis=1)
    bad = np.flatnonzero((counts != 1) & ~np.isnan(rows.labels).all(axis=1))
    if len(bad):
        raise DataError(
            f"source '{card}': image {rows.images[bad[0]]} has {counts[bad[0]]} of {len(rows.label_names)} classes, and one is needed for "
            "cross-entropy: set loss: bce"
        )


def _refuse_other_names(config: Config, cards: list[str]) -> None:
    """Raise Error when `uncertain_of` names what looks like a misspelt source; one of another study may stand there."""
    for name in config.uncertain_of:
        near = difflib.get_close_matches(name, cards, n=1)
        if name not in cards and near:
            raise Error(f"config.uncertain_of: there is no source '{name}'; did you mean '{near[0]}'?")
        if name not in cards:
            _LOG.warning("uncertain_of names '%s', which is none of the sources %s", name, ", ".join(cards))
