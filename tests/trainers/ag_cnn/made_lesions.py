"""A card in memory whose finding is a small bright square somewhere in the image, and the stages of an AG-CNN on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from tests.trainers.made_data import LABELS, MemoryStore, made_rows
from trainers.ag_cnn import train
from trainers.ag_cnn.config import NAME, Config
from trainers.api import Parent, Setup
from trainers.data.access import Access

CPU = torch.device("cpu")
TINY = Config(
    arch="slim", channels=1, px=32, epochs=2, batch_size=8, lr=1e-3, augment="none", normalization="half", threshold=0.6, min_side=0.25
)
SIDE = 9


def made_lesions(*, n: int = 60, px: int = 64, sizes: tuple[int, int] = (36, 12), seed: int = 0, names: tuple[str, ...] = LABELS) -> Access:
    """Open made images of noise, (px, px); where `signal` is positive there is a square of SIDE pixels of 64, brighter than all."""
    rows, random = replace(made_rows(n, seed), label_names=names), np.random.default_rng(seed)
    images = random.integers(60, 120, (n, px, px)).astype(np.uint8)
    side = SIDE * px // 64
    for image, positive in zip(images, rows.labels[:, 0] == 1, strict=True):
        top, left = random.integers(0, px - side, 2)
        if positive:
            image[top : top + side, left : left + side] = 230
    bounds = {"train": (0, sizes[0]), "val": (sizes[0], sum(sizes)), "test": (sum(sizes), n)}

    def store(size: int, **kind: Any) -> MemoryStore:
        factor = px // size
        small = images.reshape(n, size, factor, size, factor).mean((2, 4)) if factor > 1 else images
        return MemoryStore(np.rint(small).astype(np.uint8), [(px, px)] * n)

    return Access(
        card="lesions",
        label_names=names,
        rows_of=lambda split: rows.take(np.arange(*bounds[split])) if split in bounds else None,
        store=store,
        is_open=lambda split: True,
        policies={"uncertain": "ignore", "missing": "zeros"},
    )


def setup_of(config: Config, *, seed: int = 0, data: Access | None = None, **changes: Any) -> Setup:
    return Setup(**{"config": config, "seed": seed, "data": data or made_lesions(), "device": CPU, "labels": LABELS, **changes})


def handed_on(method: train.AgCnnTraining, folder: Path, name: str) -> Parent:
    """Write what a stage hands on, as the loop does."""
    state = {key: value.contiguous() for key, value in method.module.state_dict().items()}
    save_file(state, folder / f"{name}.safetensors")
    config = {key: getattr(method.config, key) for key in method.config.__slots__}
    return Parent(files=(folder / f"{name}.safetensors",), trainer=NAME, config=config)


def parents_of(folder: Path, config: Config = TINY, **local: Any) -> dict[str, Parent]:
    """Return untrained parents: a global stage, and a local one that follows it."""
    first = handed_on(train.build(setup_of(replace(config, branch="global"))), folder, "global")
    second = train.build(setup_of(replace(config, branch="local", **local), parents={"global": first}, seed=1))
    return {"global": first, "local": handed_on(second, folder, "local")}
