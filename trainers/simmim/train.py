"""Masked image modelling on chest radiographs.

Squares of a view are hidden from the network, which says what stood there; the loss is the mean absolute difference over hidden pixels of
the normalised view. B images, C channels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from trainers.api import Scores, Setup
from trainers.data import transforms
from trainers.data.access import ImageStore, Rows
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.errors import Collapsed, Diverged, Error
from trainers.parts import backbones, schedules
from trainers.parts.inputs import Normalizer
from trainers.parts.watching import Watch, features_of
from trainers.pictures import shown
from trainers.precision import autocast
from trainers.processes import Processes, rows_of_all
from trainers.simmim.config import Config
from trainers.simmim.masking import Masking, constant_l1, each_l1, masked_l1
from trainers.simmim.network import MaskedAutoencoder, Rebuilder, groups, strides, token_width

_LOG = logging.getLogger(__name__)
_BACKBONE, _HEAD, _ORDER, _MASKS = range(1, 5)
#: Masks of validation images are the same for every seed, so that runs can be set side by side.
_FIXED = 0x51
#: The guard speaks after this share of the steps, when the loss is no better than this share of a constant image's.
_GUARD_AFTER, _GUARD_BAND = 0.5, 0.98
#: Side of a tile of a picture, at most: four images of three tiles each.
_TILE = 128


def build(setup: Setup) -> MaskedModelling:
    """Build the method. Raises Error when the network, its squares or the batch do not fit, WeightsError when the start cannot be had."""
    return MaskedModelling(setup)


class MaskedModelling:
    """SimMIM: random squares are hidden, a learnt token stands in for each hidden token, one layer predicts the pixels."""

    def __init__(self, setup: Setup) -> None:
        config: Config = setup.config
        self.config, self.setup = config, setup
        backbone = backbones.build(
            config.arch, config.channels, config.px, window=config.window, drop_path=config.drop_path, seed=key(setup.seed, _BACKBONE)
        )
        token_px, stride = strides(backbone, config.arch)
        _check_sizes(config, token_px, stride)
        self.masking = Masking.of(config.px, config.mask_patch, config.mask_ratio, token_px)
        if not setup.predict_only:
            self.report = backbones.start(backbone, setup)
            if self.report is not None:
                _LOG.info("%s", self.report.sentence())
        head = Rebuilder(
            token_width=token_width(backbone),
            width=backbones.width(backbone),
            stride=stride,
            channels=config.channels,
            seed=key(setup.seed, _HEAD),
        )
        self.module = MaskedAutoencoder(backbone, head, Normalizer(config.normalization, config.channels), self.masking)
        place(self.module, setup.device)
        if setup.predict_only:
            return
        self._positions = setup.data.rows("train").position
        if len(self._positions) < config.batch_size:
            raise Error(
                f"config.batch_size: {config.batch_size} is more than the {len(self._positions)} training images of card "
                f"'{setup.data.card}': set it to {len(self._positions)} or less"
            )
        self._augment = transforms.AUGMENTS[config.augment]
        self.store: ImageStore = setup.data.images(config.px)
        self.watch = Watch.of(setup.data, config.watch_images) if config.watch_every_epochs else None
        self._val, self._shown, self._shown_split = _looked_at(setup)
        self.captions = {"reconstruction": f"{self._shown_split} images, what the network saw of them, and what it makes of the rest"}
        self.steps_per_epoch = len(self._positions) // config.batch_size
        self._step = 0
        #: Over the epoch so far: sum of losses, of those of a constant image, images.
        self._sums = torch.zeros(3, dtype=torch.float64)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW with betas 0.9 and 0.999; rates grow with the batch (Goyal et al. 2017, as SimMIM does)."""
        config = self.config
        self._sums = self._sums.to(next(self.module.parameters()).device)
        lr = config.lr * (config.batch_size / config.lr_images if config.lr_images else 1.0)
        return torch.optim.AdamW(groups(self.module, lr, config.weight_decay), lr=lr, fused=True)

    def learning_rate_factor(self, step: int) -> float:
        """Return the rate at a step over lr: a rise from `warmup_lr`, then the schedule."""
        config, total = self.config, self.config.epochs * self.steps_per_epoch
        return rate(step, total, config, self.steps_per_epoch) / config.lr

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield whole batches of views and hidden squares in an order that is a function of (seed, epoch)."""
        yield from map(made, self.recipes(epoch, start))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor | Drawn]]:
        """Yield the same batches, their views not made yet."""
        order, size = self._order(epoch), self.config.batch_size
        for step in range(start, self.steps_per_epoch):
            here = self._positions[order[step * size : (step + 1) * size]]
            yield {
                "views": Drawn(size, partial(self._views, here, epoch)),
                "hidden": self.masking.drawn(here, seed=key(self.setup.seed, _MASKS), epoch=epoch),
            }

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss over hidden pixels, and what constant images would have cost (`constant`)."""
        target, rebuilt = self.module(batch["views"], batch["hidden"])
        pixels = self.masking.of_pixels(batch["hidden"])
        loss = masked_l1(target, rebuilt, pixels)
        with torch.no_grad():
            constant = constant_l1(target, pixels).mean()
            self._sums += len(target) * torch.stack([loss.detach().double(), constant.double(), torch.ones_like(constant).double()])
        return {"loss": loss, "constant": constant}

    def after_step(self, step: int) -> None:
        """Count the step."""
        self._step = step + 1

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Look at what was learnt. Raises Collapsed when the guard finds no more than a constant image."""
        loss, constant, count = rows_of_all(self._sums[None]).sum(0).tolist()
        self._sums.zero_()
        late = self._step >= _GUARD_AFTER * self.config.epochs * self.steps_per_epoch
        if self.config.collapse_guard and late and count:
            raise_if_collapsed(loss / count, constant / count)
        done = epoch + 1
        found: dict[str, float] = {}
        if self._val is not None and (done % self.config.save_every_epochs == 0 or done == self.config.epochs):
            found = {"val/reconstruction": self._reconstruction(self._val)}
        return {**found, **self._watched(done)}

    def validate(self) -> Scores | None:
        """Return None: pretraining predicts no labels."""
        return None

    def predict(self, rows: Rows) -> Scores:
        """Raise Error: pretraining predicts no labels."""
        raise Error("simmim predicts no labels: follow it with a phase of trainer classification or segmentation, and evaluate that")

    def pictures(self, epoch: int) -> dict[str, np.ndarray]:
        """Return the shown images, a row each: whole, with hidden squares grey, and with these as the network fills them."""
        views = torch.from_numpy(transforms.plain(self.store, self._shown.position, self.config.px))
        hidden = self.masking.drawn(self._shown.position, seed=_FIXED, epoch=0)
        device = next(self.module.parameters()).device
        with autocast(self.config.precision, device):
            _, rebuilt = self.module(views.to(device), hidden.to(device))
        mean, spread = transforms.channel_statistics(self.config.normalization, self.config.channels)
        pixels = self.masking.of_pixels(hidden)[:, 0].numpy()
        guess = np.stack([rebuilt[:, c].float().cpu().numpy() * spread[c] + mean[c] for c in range(self.config.channels)]).mean(0)
        whole = views[:, 0].numpy()
        filled = np.where(pixels, np.rint(np.clip(guess * 255, 0, 255)).astype(np.uint8), whole)
        grey = np.where(pixels, np.uint8(128), whole)
        return {"reconstruction": np.concatenate([np.concatenate([*map(_tile, row)], 1) for row in zip(whole, grey, filled, strict=True)])}

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch's sums stand."""
        return {"sums": self._sums, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._sums.copy_(state["sums"])
        self._step = int(state["step"])

    def facts(self) -> dict[str, Any]:
        """Return what the result says besides: how much is masked, what was looked at, which labels were opened to watch."""
        looked = {"reconstructed": 0 if self._val is None else len(self._val), "shown": self._shown_split}
        return {"masking": self.masking.facts(), **looked, **({} if self.watch is None else {"watched": self.watch.facts()})}

    @torch.no_grad()
    def _reconstruction(self, rows: Rows) -> float:
        """Return the mean loss over some images, centre squares with fixed masks, in eval mode; processes share the work."""
        processes, size = Processes(), self.config.micro_batch or self.config.batch_size
        batches = -(-len(rows) // size)
        low, high = (batches * rank // processes.count * size for rank in (processes.rank, processes.rank + 1))
        device, training = next(self.module.parameters()).device, self.module.training
        self.module.eval()
        losses = [torch.empty(0, device=device)]
        try:
            with autocast(self.config.precision, device):
                for first in range(low, min(high, len(rows)), size):
                    here = rows.position[first : min(first + size, high)]
                    hidden = self.masking.drawn(here, seed=_FIXED, epoch=0).to(device)
                    views = torch.from_numpy(transforms.plain(self.store, here, self.config.px)).to(device)
                    target, rebuilt = self.module(views, hidden)
                    losses.append(each_l1(target, rebuilt, self.masking.of_pixels(hidden)))
        finally:
            self.module.train(training)
        found = float(rows_of_all(torch.cat(losses)).double().mean())
        if not math.isfinite(found):
            raise Diverged("validation: reconstructions are not finite; lower lr, set grad_clip, or set precision: fp32")
        return found

    def _watched(self, done: int) -> dict[str, float]:
        """Return how well features tell labels after so many epochs, where it is time to look; the first process alone has the numbers."""
        every = self.config.watch_every_epochs
        if self.watch is None or (done % every and done != self.config.epochs):
            return {}
        train, val = (
            features_of(self.module, self.module.features, backbones.width(self.module.backbone), self.store, rows, self.config)
            for rows in (self.watch.train, self.watch.val)
        )
        return self.watch.measure(train, val) if Processes().is_first else {}

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=key(self.setup.seed, _ORDER, epoch))).permutation(len(self._positions))

    def _views(self, positions: np.ndarray, epoch: int, part: slice = slice(None)) -> Tensor:
        here = positions[part]
        return torch.from_numpy(transforms.batch(self.store, here, self.config.px, self._augment, seed=self.setup.seed, epoch=epoch))


def rate(step: int, total: int, config: Config, steps_per_epoch: int) -> float:
    """Return the learning rate of `lr_images` at a step, counted from 0.

    `cosine_released` is timm 0.4's per step as SimMIM drives it: the rate of a step is set after the one before it, so the first two have
    `warmup_lr`, and the cosine counts from step 0, so that it starts below lr where the rise ends.
    """
    rising = round(config.warmup * total)
    lag = config.schedule == "cosine_released"
    step = max(step - 1, 0) if lag else step
    if step < rising:
        return config.warmup_lr + step * (config.lr - config.warmup_lr) / rising
    if config.schedule == "milestones":
        return config.lr * schedules.milestones(step // steps_per_epoch, config.milestones)
    if config.schedule == "constant":
        return config.lr
    fallen = schedules.cosine(step, total) if lag else schedules.cosine(step - rising, total - rising)
    return config.min_lr + (config.lr - config.min_lr) * fallen


def raise_if_collapsed(loss: float, constant: float) -> None:
    """Raise Collapsed when an epoch's loss is that of constant images."""
    if loss >= _GUARD_BAND * constant:
        raise Collapsed(
            f"nothing is rebuilt: loss {loss:.4f} against {constant:.4f} of constant images; lower lr, give it more epochs, or hide less "
            "(mask_ratio)"
        )


def _check_sizes(config: Config, token_px: int, stride: int) -> None:
    """Refuse squares and views that tokens and features do not tile."""
    if config.mask_patch % token_px:
        raise Error(f"config.mask_patch: {config.mask_patch} px are no whole tokens of {token_px} px of '{config.arch}': set a multiple")
    if config.px % stride:
        raise Error(f"config.px: {config.px} is no multiple of the {stride} px that a feature of '{config.arch}' stands for: set one")


def _looked_at(setup: Setup) -> tuple[Rows | None, Rows, str]:
    """Return the validation images that are reconstructed, None without, and those of pictures with the split that they are of."""
    val = setup.data.find("val")
    if val is None or not len(val):
        return None, shown(setup.data.rows("train")), "training"
    count = min(setup.config.validate_images, len(val))
    return (val.take(np.arange(count)) if count else None), shown(val), "validation"


def _tile(image: np.ndarray) -> np.ndarray:
    """Return a grey image at the size of a tile."""
    return cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_AREA) if image.shape[0] > _TILE else image
