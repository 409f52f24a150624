"""Sources that differ, held in memory: in their size, in what they call their labels, in what is planted, and in their task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tests.trainers.made_data import MemoryStore, made_images, made_rows
from trainers.api import Setup, Source
from trainers.ark.config import Config
from trainers.data.access import Access, Rows

#: Card -> (labels, training images, task). `signal` is bright at the upper left; a class of `classes` is how bright an image is.
CARDS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "alpha": (("signal", "noise"), 48, "multilabel"),
    "beta": (("signal", "other"), 24, "multilabel"),
    "gamma": (("dark", "middle", "bright"), 30, "multiclass"),
}
TINY = Config(
    arch="slim",
    px=32,
    projector="linear",
    projector_features=16,
    drop_path=0.0,
    epochs=3,
    batch_size=8,
    lr=0.05,
    warmup=0.0,
    student_view="plus",
    momentum=0.9,
)
VAL = 20


def source(card: str, *, px: int = 32, val: bool = True, uncertain: bool = False, labels: tuple[str, ...] | None = None) -> Access:
    """Open a source: its training images, then 20 of validation, then test."""
    names, train, task = CARDS[card]
    n = train + VAL + 10
    seed = list(CARDS).index(card)
    rows = made_rows(n, seed, flaws=uncertain)
    images = made_images(rows, px, seed)
    if task == "multiclass":
        which = np.random.default_rng(seed).integers(0, 3, n)
        images = np.clip(images.astype(np.int64) // 2 + 50 * which[:, None, None], 0, 255).astype(np.uint8)
        rows = replace(rows, labels=np.eye(3, dtype=np.float32)[which])
    rows = replace(rows, card=card, label_names=names if labels is None else labels)
    if labels == ():
        rows = replace(rows, labels=rows.labels[:, :0])
    bounds = {"train": (0, train), "val": (train, train + VAL), "test": (train + VAL, n)}
    if not val:
        del bounds["val"]

    def rows_of(split: str) -> Rows | None:
        return rows.take(np.arange(*bounds[split])) if split in bounds else None

    return Access(
        card=card,
        label_names=rows.label_names,
        task=task,
        rows_of=rows_of,
        store=lambda size: MemoryStore(images, [(px, px)] * n),
        is_open=lambda split: split in ("train", "val"),
        policies={"uncertain": "ignore", "missing": "zeros"},
    )


def setup_of(config: Config = TINY, *cards: str, seed: int = 0, accesses: tuple[Access, ...] = (), **more: Any) -> Setup:
    """Return the setup of a run on some cards, all three by default."""
    opened = accesses or tuple(source(card, px=config.px) for card in cards or CARDS)
    return Setup(
        config=config,
        seed=seed,
        data=opened[0],
        sources=opened,
        labels=tuple(dict.fromkeys(name for one in opened for name in one.label_names)),
        learnt_from={one.card: Source(labels=one.label_names, task=one.task) for one in opened},
        device=torch.device("cpu"),
        **more,
    )
