"""Momentum contrast on chest radiographs.

Two views of each image: a query, encoded by the network that learns, and a key, encoded by its slow copy. The query should be nearest to
its own key among the keys of the last thousands of images. B images, C dimensions, K keys in the queue.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.api import Scores, Setup
from trainers.data import transforms
from trainers.data.access import ImageStore, Rows
from trainers.data.scramble import ScrambledStore
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.errors import Collapsed, Error
from trainers.moco_cxr.config import Config
from trainers.parts import backbones, ema, heads, losses, optimizers, schedules
from trainers.parts.inputs import Normalizer
from trainers.parts.queue import Queue
from trainers.parts.watching import Watch, features_of
from trainers.precision import autocast
from trainers.processes import Processes, rows_of_all

_LOG = logging.getLogger(__name__)
_BACKBONE, _HEAD, _ORDER, _FILL, _SHUFFLE, _SCRAMBLE = range(1, 7)
_QUERY_VIEW, _KEY_VIEW, _FILL_VIEW = range(3)
#: The guard speaks after this share of the steps, when the loss is within this share of that of a coin with K + 1 sides.
_GUARD_AFTER, _GUARD_BAND = 0.05, 0.02


def build(setup: Setup) -> MomentumContrast:
    """Build the method. Raises Error when the queue or the batch does not fit the data, WeightsError when the start cannot be had."""
    return MomentumContrast(setup)


class Encoder(nn.Module):
    """Views (B, 1, px, px) uint8 to directions (B, C) float32 of unit length."""

    def __init__(self, backbone: nn.Module, head: nn.Module, normalize: Normalizer) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self._normalize = normalize

    def features(self, views: Tensor) -> Tensor:
        """Return what the backbone hands on, (B, d) float32."""
        return self.backbone(self._normalize(views)).float()

    def forward(self, views: Tensor) -> Tensor:
        features = self.features(views)
        with torch.autocast(views.device.type, enabled=False):
            return functional.normalize(self.head(features), dim=1)


class MomentumContrast:
    """MoCo v2 with the augmentation and the settings of MoCo-CXR.

    Published on G GPUs, a batch of B images is normalised in G groups of B / G, and keys are shuffled over all of it before they are cut
    into such groups. Here that is `bn_images: B / G`, `key_bn_groups: 1`, `shuffle: across`, on any number of processes, one included. On
    one GPU the published shuffle reorders a single group: that is `key_bn_groups: 1` alone, and the statistics of a batch give its keys
    away. `shuffle: within` cuts the keys of each query group in `key_bn_groups`, which takes from the leak and does not end it;
    `apart` ends it (tests/trainers/moco_cxr/test_shuffle.py measures all of them).
    """

    def __init__(self, setup: Setup) -> None:
        config: Config = setup.config
        self.config, self.setup = config, setup
        backbone = backbones.build(config.arch, config.channels, config.px, drop_path=config.drop_path, seed=key(setup.seed, _BACKBONE))
        if not setup.predict_only:
            self.report = backbones.start(backbone, setup)
            if self.report is not None:
                _LOG.info("%s", self.report.sentence())
        head = heads.projection(backbones.width(backbone), config.dim, hidden=config.mlp_head, seed=key(setup.seed, _HEAD))
        self.module = Encoder(backbone, head, Normalizer(config.normalization, config.channels))
        place(self.module, setup.device)
        if setup.predict_only:
            return
        self._positions = setup.data.rows("train").position
        _check(config, len(self._positions), setup.data.card)
        store = setup.data.images(config.px, exact=transforms.AUGMENTS[config.augment].exact)
        self.store: ImageStore = store if config.images == "real" else ScrambledStore(store, key(setup.seed, _SCRAMBLE))
        self._augment = transforms.AUGMENTS[config.augment]
        #: Its images are real ones, whatever is learnt from: what follows sees real ones.
        self._seen = store
        self.watch = Watch.of(setup.data, config.watch_images) if config.watch_every_epochs else None
        self.steps_per_epoch = len(self._positions) // config.batch_size
        #: Keys that come from all over the batch must all be there before the first loss.
        self.accumulates = config.shuffle == "within"
        self._step = 0
        self._new_keys: list[Tensor] = []
        #: Over the epoch so far: sum of losses, queries nearest to their key, queries.
        self._sums = torch.zeros(3, dtype=torch.float64)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer of the query encoder; its slow copy and the queue come to life on the same device."""
        config = self.config
        self.key_encoder = ema.slow_copy(self.module)
        self.key_encoder.train()
        device = next(self.module.parameters()).device
        self.queue = Queue(config.queue_size, config.dim, device=device)
        self._sums = self._sums.to(device)
        if config.queue_init == "random":
            self.queue.fill_random(key(self.setup.seed, _FILL))
        return optimizers.build(
            self.module.backbone,
            self.module.head,
            name=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            decay_norms=config.decay_norms,
        )

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor: milestones by epoch, cosine and warm-up by step."""
        total = self.config.epochs * self.steps_per_epoch
        rising = round(self.config.warmup * total)
        if self.config.schedule == "milestones":
            return schedules.milestones(step // self.steps_per_epoch, self.config.milestones)
        if self.config.schedule == "cosine":
            return schedules.cosine(step, total, warmup_steps=rising)
        return schedules.warmup(step, rising)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield whole batches of two views in an order that is a function of (seed, epoch)."""
        yield from map(made, self.recipes(epoch, start))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor | Drawn]]:
        """Yield the same batches, their views not made yet."""
        order, size = self._order(_ORDER, epoch), self.config.batch_size
        for step in range(start, self.steps_per_epoch):
            here = self._positions[order[step * size : (step + 1) * size]]
            # Keys are drawn where they are encoded, so that no image is sent from process to process.
            there = here[self._key_order(epoch * self.steps_per_epoch + step).numpy()]
            yield {
                "query": Drawn(size, partial(self._views, here, epoch, _QUERY_VIEW)),
                "key": Drawn(size, partial(self._views, there, epoch, _KEY_VIEW)),
                "index": torch.arange(size),
            }

    def before_step(self, step: int) -> None:
        """Move the slow copy before it encodes, by the query encoder of before this step's update (He et al. 2020, algorithm 1)."""
        if not self.queue.is_full:
            self._fill_queue()
        self._step = step
        self._new_keys.clear()
        ema.update(self.key_encoder, self.module, self._momentum())

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return InfoNCE of the queries (B, C) against their keys and the queue as it was before this step."""
        query = self.module(batch["query"])  # B, C
        keys = self._keys_of(batch["key"], batch["index"])  # B, C
        logits = losses.contrast(query, keys, self.queue.keys, self.config.temperature)  # B, 1 + K
        loss = losses.info_nce(logits)
        self._new_keys.append(keys)
        hits, near = losses.within_top(logits.detach(), 1, 5)
        self._sums += torch.stack([loss.detach().double() * len(keys), hits.double(), torch.full_like(hits, len(keys)).double()])
        return {"loss": loss, "queue_accuracy": hits / len(keys), "queue_top5": near / len(keys)}

    def after_step(self, step: int) -> None:
        """Let the step's keys, those of all processes in their order, replace the oldest."""
        self.queue.push(rows_of_all(torch.cat(self._new_keys)))
        self._new_keys.clear()
        self._step = step + 1

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Look at what the epoch told apart. Raises Collapsed when the guard finds that nothing is told apart."""
        loss, hits, count = rows_of_all(self._sums[None]).sum(0).tolist()
        self._sums.zero_()
        late = self._step >= _GUARD_AFTER * self.config.epochs * self.steps_per_epoch
        if self.config.collapse_guard and late and count:
            raise_if_collapsed(loss / count, hits / count, self.config.queue_size)
        return self._watched(epoch + 1)

    def validate(self) -> Scores | None:
        """Return None: pretraining predicts no labels."""
        return None

    def predict(self, rows: Rows) -> Scores:
        """Raise Error: pretraining predicts no labels."""
        raise Error("moco_cxr predicts no labels: follow it with a phase of trainer classification, and evaluate that")

    def state_dict(self) -> dict[str, Any]:
        """Return the slow copy, the queue, and where the epoch's sums stand."""
        return {"key_encoder": self.key_encoder.state_dict(), "queue": self.queue.state_dict(), "sums": self._sums, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.key_encoder.load_state_dict(state["key_encoder"])
        self.queue.load_state_dict(state["queue"])
        self._sums.copy_(state["sums"])
        self._step = int(state["step"])
        self._new_keys.clear()

    def facts(self) -> dict[str, Any]:
        """Return what the result says besides: which labels were opened to watch, where any were."""
        return {} if self.watch is None else {"watched": self.watch.facts()}

    def _watched(self, done: int) -> dict[str, float]:
        """Return how well features tell labels after so many epochs, where it is time to look; the first process alone has the numbers."""
        every = self.config.watch_every_epochs
        if self.watch is None or (done % every and done != self.config.epochs):
            return {}
        train, val = (
            features_of(self.module, self.module.features, backbones.width(self.module.backbone), self._seen, rows, self.config)
            for rows in (self.watch.train, self.watch.val)
        )
        return self.watch.measure(train, val) if Processes().is_first else {}

    def _momentum(self) -> float:
        end = self.config.momentum if self.config.momentum_end is None else self.config.momentum_end
        return schedules.rising_momentum(self._step, self.config.epochs * self.steps_per_epoch, self.config.momentum, end)

    def _order(self, *parts: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=key(self.setup.seed, *parts))).permutation(len(self._positions))

    def _views(self, positions: np.ndarray, epoch: int, view: int, part: slice = slice(None)) -> Tensor:
        here = positions[part]
        return torch.from_numpy(
            transforms.batch(self.store, here, self.config.px, self._augment, seed=self.setup.seed, epoch=epoch, view=view)
        )

    def _keys_of(self, views: Tensor, index: Tensor) -> Tensor:
        """Return the keys (B, C) of the queries at `index` of the step's batch, `views` being what this process took of the key views."""
        if self.config.shuffle == "within":
            return self._encode_keys(views, self._step, int(index[0]))
        order = self._key_order(self._step).to(views.device)
        return rows_of_all(self._encode_groups(views))[order.argsort()][index]

    def _key_order(self, step: int) -> Tensor:
        """Return in which order the images of a step's batch are encoded as keys, one BatchNorm group of keys after another.

        `across`: at random over the batch, as published for several GPUs. `apart`: one image of every query group, then a second one of
        each, and so on, so that a group of no more keys than there are query groups holds at most one image of each: the statistics that
        a key is normalised by then tell nothing of its query's but what the image itself does.
        """
        size = self.config.batch_size
        if self.config.shuffle == "within":
            return torch.arange(size)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(key(self.setup.seed, _SHUFFLE, step, 0)))
        if self.config.shuffle == "across":
            return order
        group = order // self.config.bn_images
        turn = functional.one_hot(group).cumsum(0).gather(1, group[:, None])[:, 0]
        return order[turn.argsort(stable=True)]

    def _encode_keys(self, views: Tensor, step: int, first: int) -> Tensor:
        """Encode keys in shuffled sub-batches of their queries' groups, whose statistics are like the query's but not the same.

        `first` is the index within the step's batch: each group of `bn_images` is shuffled within itself, so micro-batches and processes
        see the same sub-batches.
        """
        if self.config.key_bn_groups == 1:
            return self._encode_groups(views)
        block = self.config.bn_images or len(views)
        keys: list[Tensor] = []
        for offset, part in enumerate(views.split(block)):
            generator = torch.Generator().manual_seed(key(self.setup.seed, _SHUFFLE, step, first + offset * block))
            order = torch.randperm(len(part), generator=generator).to(part.device)
            keys.append(self._encode_groups(part[order])[order.argsort()])
        return torch.cat(keys)

    @torch.no_grad()
    def _encode_groups(self, views: Tensor) -> Tensor:
        """Encode keys in their order, in groups of `bn_images` / `key_bn_groups` that are normalised alone (He et al., section 3.3)."""
        groups, block = self.config.key_bn_groups, self.config.bn_images or len(views)
        parts = (some for part in views.split(block) for some in part.tensor_split(groups))
        return torch.cat([self.key_encoder(some) for some in parts])

    def _filling(self, views: Tensor, step: int) -> Tensor:
        """Return the keys of a batch of which this process has all views, in the order of these."""
        if self.config.shuffle == "within":
            return self._encode_keys(views, step, 0)
        order = self._key_order(step).to(views.device)
        return self._encode_groups(views[order])[order.argsort()]

    def _fill_queue(self) -> None:
        """Fill the queue with keys of training images: a queue of noise is told apart without learning anything."""
        order, size = self._positions[self._order(_FILL)], self.config.batch_size
        device = self.queue.keys.device
        with autocast(self.config.precision, device):
            for index in range(math.ceil(self.config.queue_size / size)):
                here = np.take(order, range(index * size, (index + 1) * size), mode="wrap")
                views = self._views(here, 0, _FILL_VIEW).to(device)
                self.queue.push(self._filling(views, -1 - index))


def _check(config: Config, images: int, card: str) -> None:
    """Refuse settings that the data cannot meet, in one sentence each."""
    size = config.batch_size
    if images < size:
        raise Error(f"config.batch_size: {size} is more than the {images} training images of card '{card}': set it to {images} or less")
    if config.queue_size > images:
        raise Error(
            f"config.queue_size: {config.queue_size} keys are more than the {images} training images of card '{card}', so that an image "
            f"would meet its own old key: set it to {max(size, images // 4)} (a quarter of the images), or to {images} at most"
        )


def raise_if_collapsed(loss: float, accuracy: float, queue_size: int) -> None:
    """Raise Collapsed when queries are found no better than by chance and the loss is that of chance, ln(K + 1)."""
    chance = math.log(queue_size + 1)
    if accuracy < 2 / (queue_size + 1) and abs(loss - chance) <= _GUARD_BAND * chance:
        raise Collapsed(
            f"nothing is told apart: loss {loss:.3f} against ln(K + 1) = {chance:.3f}, queue accuracy {accuracy:.5f}; "
            "lower lr, use optimizer adamw with a warm-up, fill the queue with real keys, or lower momentum for short runs"
        )
