"""What BatchNorm gives away: queries found among thousands of keys by an encoder that never looks at its own image.

The encoder puts a blank image in the place of each one and hands on what BatchNorm makes of it: a constant function and the statistics of
the other images of its group, nothing else. It finds a key if and only if the statistics of the key's group say which batch it is from.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.api import Setup
from trainers.data.access import Access, Rows
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config
from trainers.parts.batchnorm import group_batchnorm

SIDE = 8


class Blank(nn.Module):
    """Views (B, 1, 8, 8) to directions (B, 64): what a blank image in the place of each becomes among the others."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(SIDE * SIDE)
        #: Pixels that every forward pass saw, (B, 64).
        self.seen: list[Tensor] = []

    def forward(self, views: Tensor) -> Tensor:
        pixels = views.flatten(1).float()
        self.seen.append(pixels)
        found: list[Tensor] = []
        for place in range(len(pixels)):
            others = pixels.clone()
            others[place] = 127.5
            found.append(self.norm(others[:, :, None, None])[place].flatten())
        return functional.normalize(torch.stack(found), dim=1)


def noise(images: int, seed: int = 0, side: int = SIDE) -> Access:
    """Open images of independent pixels, no two of which have anything in common."""
    drawn = np.random.default_rng(seed).integers(0, 256, (images, side, side), dtype=np.uint8)
    names = np.array([f"{number:04d}" for number in range(images)])
    rows = Rows(
        card="noise",
        images=names,
        patients=names,
        studies=names,
        views=np.array(["frontal"] * images),
        labels=np.zeros((images, 0), np.float32),
        label_names=(),
        position=np.arange(images),
    )

    class Store:
        px = side

        def image(self, position: int) -> np.ndarray:
            return drawn[position]

        def file_shape(self, position: int) -> tuple[int, int]:
            return (side, side)

    return Access(
        card="noise",
        label_names=(),
        rows_of=lambda split: rows if split == "train" else None,
        store=lambda size: Store(),
        is_open=lambda split: split == "train",
    )


def config_of(**changes: object) -> Config:
    """Return a config of batches of 16 whose two views of an image are the image itself."""
    settings: dict[str, object] = {"arch": "slim", "px": SIDE, "dim": SIDE * SIDE, "batch_size": 16, "queue_size": 64, "augment": "none"}
    return Config(**{**settings, "collapse_guard": False, **changes})  # type: ignore[arg-type]


def blind(config: Config, images: int = 192, seed: int = 0) -> train.MomentumContrast:
    """Return the method with encoders that do not look."""
    trainer = train.build(Setup(config=config, seed=seed, data=noise(images), device=torch.device("cpu")))
    trainer.optimizer()
    trainer.module, trainer.key_encoder = Blank(), Blank()  # type: ignore[assignment]
    if config.bn_images:
        for encoder in (trainer.module, trainer.key_encoder):
            group_batchnorm(encoder, config.bn_images)
    return trainer


@torch.no_grad()
def found(config: Config, epochs: int = 2) -> float:
    """Return which share of queries finds its key; the share by chance is 1 / (1 + queue_size)."""
    trainer = blind(config)
    hits: list[float] = []
    for epoch in range(epochs):
        for step, batch in enumerate(trainer.batches(epoch), start=epoch * trainer.steps_per_epoch):
            trainer.before_step(step)
            hits.append(float(trainer.loss(batch)["queue_accuracy"]))
            trainer.after_step(step)
    return float(np.mean(hits))
