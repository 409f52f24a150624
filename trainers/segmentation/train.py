"""A feature pyramid and a UPerNet decoder over the structures of a card.

Images are whole, brought to squares of `px`, and so are their masks. Validation is measured at that size; test masks are compared as fine
as they are on disk, or at that size too (`score_at`). A pixel is inside where its probability is above 0.5, which is declared and chosen on
nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainers.api import Overlaps, Setup
from trainers.data import pairs
from trainers.data.access import Rows
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.errors import Diverged, Error
from trainers.parts import backbones, labels, optimizers, pyramids, schedules, surfaces
from trainers.parts.dice import mask_loss
from trainers.parts.inputs import Normalizer
from trainers.parts.outlines import LEGEND, overlay
from trainers.parts.upernet import PublishedUPerNet, UPerNet
from trainers.pictures import shown
from trainers.precision import autocast
from trainers.released.published import UPERNET
from trainers.segmentation.config import Config
from trainers.segmentation.published_files import start_decoder

_LOG = logging.getLogger(__name__)
_BACKBONE, _DECODER, _ORDER, _PYRAMID = 1, 2, 3, 4
_VALIDATION_VIEW = 1
#: Epochs of warm-up of the published schedule.
_RISING = 20


def build(setup: Setup) -> Segmentation:
    """Build the segmentation that the config asks for. Raises Error or WeightsError when its start cannot be had."""
    return Segmentation(setup)


class Segmenter(nn.Module):
    """Views (B, 1, px, px) uint8 to logits (B, L, px, px) float32."""

    def __init__(self, pyramid: nn.Module, decoder: nn.Module, normalize: Normalizer) -> None:
        super().__init__()
        self.pyramid, self.decoder = pyramid, decoder
        self._normalize = normalize

    def forward(self, views: Tensor) -> Tensor:
        maps = self.decoder(self.pyramid(self._normalize(views)))
        # In float32: a boundary lies where logits change sign, and in bfloat16 they do so in steps.
        with torch.autocast(views.device.type, enabled=False):
            return functional.interpolate(maps.float(), size=views.shape[2:], mode="bilinear", align_corners=False)


class Segmentation:
    """Gradient steps on the Dice loss, over backbone and decoder."""

    #: Dice is a ratio of sums over the batch, and not a mean over its images.
    accumulates = False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config: Config = setup.config
        self.labels = labels.outputs_of(setup)
        config = self.config
        backbone = backbones.build(config.arch, config.channels, config.px, drop_path=config.drop_path, seed=key(setup.seed, _BACKBONE))
        self.report = None if setup.predict_only else backbones.start(backbone, setup)
        if self.report is not None:
            _LOG.info("%s", self.report.sentence())
        self.module = Segmenter(
            *_network(config, backbone, len(self.labels), setup.seed), Normalizer(config.normalization, config.channels)
        )
        if self.report is not None and self.report.kind == UPERNET and config.decoder == "upernet_published":
            _LOG.info("decoder: %s", start_decoder(self.module.decoder, Path(self.report.source)).sentence())
        place(self.module, setup.device)
        self.store = setup.data.images(config.px)
        self.masks = setup.data.masks(config.px, config.masks)
        self._columns = [self.masks.structures.index(name) for name in self.labels if name in self.masks.structures]
        self._epoch = 0
        self._captions: dict[str, str] = {}
        if setup.predict_only:
            return
        rows = setup.data.rows("train")
        if len(rows) == 0:
            raise Error(f"card '{setup.data.card}' has no training images in this draw: raise its fraction")
        self._positions = rows.position
        #: Images a step; a draw smaller than a batch is one batch.
        self._batch = min(config.batch_size, len(rows))
        whole = len(rows) // self._batch
        self.steps_per_epoch = whole if config.last_batch == "drop" else math.ceil(len(rows) / self._batch)

    # --- training ------------------------------------------------------------------------------------------------------------------------

    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer over backbone and decoder."""
        config = self.config
        backbone = self.module.pyramid.get_submodule("backbone")
        # What a pyramid adds to its backbone is as new as the decoder.
        new = nn.ModuleList([self.module.decoder, *(part for name, part in self.module.pyramid.named_children() if name != "backbone")])
        return optimizers.build(
            backbone,
            new,
            name=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            decay_norms=config.decay_norms,
            head_lr_factor=config.decoder_lr_factor,
            layer_decay=config.layer_decay,
        )

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor: by step, the published one by epoch."""
        total = self.config.epochs * self.steps_per_epoch
        if self.config.schedule == "published":
            return published_factor(step // self.steps_per_epoch, self.config.epochs)
        rising = round(self.config.warmup * total)
        return schedules.cosine(step, total, warmup_steps=rising) if self.config.schedule == "cosine" else schedules.warmup(step, rising)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield batches in an order that is a function of (seed, epoch); the last one is smaller where it is kept and does not fill."""
        yield from map(made, self.recipes(epoch, start))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the same batches, images and masks not made yet."""
        order = np.random.Generator(np.random.Philox(key=key(self.setup.seed, _ORDER, epoch))).permutation(len(self._positions))
        for step in range(start, self.steps_per_epoch):
            here = self._positions[order[step * self._batch : (step + 1) * self._batch]]
            yield {"pair": Drawn(len(here), partial(self._pair, here, epoch, self.config.augment, 0)), "known": self._known(here)}

    def _pair(self, positions: NDArray[np.int64], epoch: int, augment: str, view: int, part: slice = slice(None)) -> Tensor:
        """Return images and, behind them as further channels, their masks, uint8 (n, 1 + L, px, px)."""
        joint, seed = pairs.JOINTS[augment], self.setup.seed
        views, drawn = pairs.batch(self.store, self.masks, positions[part], self.config.px, joint, seed=seed, epoch=epoch, view=view)
        return torch.from_numpy(np.concatenate([views, drawn[:, self._columns]], axis=1))

    def _known(self, positions: NDArray[np.int64]) -> Tensor:
        """Return which structures are annotated in which images, bool (n, L)."""
        every = np.array([self.masks.known(int(position)) for position in positions]).reshape(len(positions), -1)
        return torch.from_numpy(every[:, self._columns])

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of a batch (`trainers.parts.dice.mask_loss`). Raises Error for one image of which BatchNorm can make nothing."""
        views, targets = batch["pair"][:, :1], batch["pair"][:, 1:].float() / 255
        try:
            logits = self.module(views)
        except ValueError as error:
            if len(views) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise Error(
                f"config.last_batch: the last batch has one image, whose deepest map at {self.config.px} px is one pixel, and BatchNorm "
                "normalises no single number: set last_batch: drop, another batch_size, or a larger px"
            ) from None
        return {"loss": mask_loss(logits, targets, batch["known"], self.config.loss)}

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Remember which epoch a validation is of, for one that is augmented."""
        self._epoch = epoch
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what comes next follows from the seed and the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""

    # --- masks ---------------------------------------------------------------------------------------------------------------------------

    def validate(self) -> Overlaps | None:
        """Measure the validation split at the working size, with its loss; None when there is none."""
        rows = self.setup.data.find("val")
        if rows is None:
            return None
        augment = self.config.augment if self.config.augment_validation else "none"
        counts, losses = _Counts(len(rows), len(self.labels)), 0.0
        for here, pair, logits in self._predicted(rows, augment):
            known = self._known(rows.position[here])
            targets = pair[:, 1:].float() / 255
            device = logits.device
            losses += len(pair) * float(mask_loss(logits, targets.to(device), known.to(device), self.config.loss, shared=False))
            drawn, true = (logits > 0).cpu().numpy(), targets.numpy() >= 0.5
            for index, column in known.nonzero().tolist():
                counts.put(here.start + index, column, drawn[index, column], true[index, column])
        return counts.overlaps(rows, self.labels, loss=losses / max(len(rows), 1))

    def predict(self, rows: Rows) -> Overlaps:
        """Measure what is drawn on rows in eval mode, in their order, with distances, at the resolution that the config names.

        Raises Error when a logit is not finite.
        """
        names = [name for name in self.labels if name in self.masks.structures]
        counts, distances = _Counts(len(rows), len(names)), np.full((len(rows), len(names)), np.nan)
        diagonal = np.zeros(len(rows))
        outputs = [self.labels.index(name) for name in names]
        for here, pair, logits in self._predicted(rows, "none"):
            maps = logits[:, outputs].cpu().numpy()
            for index, at in enumerate(range(*here.indices(len(rows)))):
                truths = self._truths(int(rows.position[at]), pair[index, 1:].numpy(), names)
                for column, (name, drawn) in enumerate(zip(names, maps[index], strict=True)):
                    if (true := truths.get(name)) is None:
                        continue
                    mask = drawn_at(drawn, true.shape)
                    counts.put(at, column, mask, true)
                    distances[at, column] = surfaces.hd95(mask, true)
                    diagonal[at] = math.hypot(*true.shape)
        return counts.overlaps(rows, tuple(names), hd95=distances, diagonal=diagonal)

    def _truths(self, position: int, targets: NDArray[np.uint8], names: list[str]) -> Mapping[str, NDArray[np.uint8]]:
        """Return the true masks of an image that are annotated, uint8 (h, w), where they are compared."""
        if self.config.score_at == "file":
            return self.masks.full(position)
        known = self.masks.known(position)
        # Targets are uint8, and half of a pixel is 127.5.
        return {
            name: (targets[column] > 127).astype(np.uint8) for column, name in enumerate(names) if known[self.masks.structures.index(name)]
        }

    @torch.no_grad()
    def _predicted(self, rows: Rows, augment: str) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield which rows, their images with masks behind (n, 1 + L, px, px) uint8, and logits (n, L, px, px), in eval mode."""
        training, device = self.module.training, next(self.module.parameters()).device
        self.module.eval()
        try:
            for first in range(0, len(rows), self.config.batch_size):
                here = slice(first, min(first + self.config.batch_size, len(rows)))
                pair = self._pair(rows.position[here], self._epoch, augment, _VALIDATION_VIEW)
                with autocast(self.config.precision, device):
                    logits = self.module(pair[:, :1].to(device))
                if not bool(logits.isfinite().all()):
                    raise Diverged("masks are drawn by logits that are not finite; lower lr, set grad_clip, or set precision: fp32")
                yield here, pair, logits
        finally:
            self.module.train(training)

    # --- pictures ------------------------------------------------------------------------------------------------------------------------

    @property
    def captions(self) -> dict[str, str]:
        """Return what each picture shows: of the validation images, and of the test images once they were asked for."""
        rows = None if self.setup.predict_only else self.setup.data.find("val")
        return self._captions if rows is None else _captions("val", shown(rows))

    def pictures(self, epoch: int) -> dict[str, NDArray[np.uint8]]:
        """Return outlines over the first validation images."""
        del epoch
        rows = self.setup.data.find("val")
        return {} if rows is None else self._outlined("val", shown(rows))

    def overlays(self, rows: Rows) -> dict[str, NDArray[np.uint8]]:
        """Return outlines over test images."""
        self._captions = _captions("test", rows)
        return self._outlined("test", rows)

    def _outlined(self, split: str, rows: Rows) -> dict[str, NDArray[np.uint8]]:
        found: dict[str, NDArray[np.uint8]] = {}
        for here, pair, logits in self._predicted(rows, "none"):
            for index, at in enumerate(range(*here.indices(len(rows)))):
                height, width = self.store.file_shape(int(rows.position[at]))
                image, true = pair[index, 0].numpy(), pair[index, 1:].float().numpy() - 127.5
                found[f"{split}-{at + 1}"] = overlay(image, list(true), list(logits[index].cpu().numpy()), width / height)
        return found


class _Counts:
    """Counts of pixels, filled image by image."""

    def __init__(self, images: int, structures: int) -> None:
        self.known = np.zeros((images, structures), dtype=bool)
        self.intersection, self.predicted, self.true = (np.zeros((images, structures), np.int64) for _ in range(3))

    def put(self, image: int, structure: int, drawn: NDArray[Any], true: NDArray[Any]) -> None:
        """Count the pixels of one structure in one image, masks (h, w) of 0 and 1."""
        self.known[image, structure] = True
        self.intersection[image, structure] = np.count_nonzero(drawn & true)
        self.predicted[image, structure] = np.count_nonzero(drawn)
        self.true[image, structure] = np.count_nonzero(true)

    def overlaps(self, rows: Rows, structures: tuple[str, ...], **more: Any) -> Overlaps:
        """Return the counts of rows with what else was measured."""
        return Overlaps(
            rows=rows,
            structures=structures,
            known=self.known,
            intersection=self.intersection,
            predicted=self.predicted,
            true=self.true,
            **more,
        )


def _captions(split: str, rows: Rows) -> dict[str, str]:
    named = {"val": "validation", "test": "test"}[split]
    return {f"{split}-{at + 1}": f"{named} image {image}: {LEGEND}" for at, image in enumerate(rows.images.tolist())}


def _network(config: Config, backbone: nn.Module, structures: int, seed: int) -> tuple[nn.Module, nn.Module]:
    """Return the pyramid and the decoder, whose weights are functions of the seed."""
    published = config.decoder == "upernet_published"
    pyramid = pyramids.pyramid_of(backbone, config.arch, config.px, merged=published, seed=key(seed, _PYRAMID))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, _DECODER))
        if published:
            return pyramid, PublishedUPerNet(pyramid.channels, structures)
        return pyramid, UPerNet(pyramid.channels, structures, width=config.width, normed=pyramid.normed)


def published_factor(epoch: int, epochs: int) -> float:
    """Return the published factor of an epoch, counted from 0: 0.5 (1 + cos(pi clip((e - 20) / (E - 20), 0, 1))) min(1, e / 20).

    Epoch 0 has a factor of 0 (BenchmarkTransformersSegmentation, `utils.py` 120-128).
    """
    done = min(max((epoch - _RISING) / max(epochs - _RISING, 1), 0.0), 1.0)
    return 0.5 * (1 + math.cos(math.pi * done)) * min(1.0, epoch / _RISING)


def drawn_at(logits: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the mask (h, w) of a map of logits, brought to that size bilinearly: 1 where the probability is above 0.5."""
    height, width = shape
    full = logits if logits.shape == (height, width) else cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    return (full > 0).astype(np.uint8)
