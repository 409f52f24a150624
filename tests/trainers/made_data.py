"""A card held in memory, for tests of methods: grey images whose upper left corner is bright when label `signal` is positive."""

from __future__ import annotations

import numpy as np

from trainers.data.access import Access, Rows

LABELS = ("signal", "noise")


class MemoryStore:
    """Images in an array, (n, side, side) uint8, and a file shape for each."""

    def __init__(self, images: np.ndarray, shapes: list[tuple[int, int]]) -> None:
        self.images = images
        self.shapes = shapes
        self.px = images.shape[1]

    def image(self, position: int) -> np.ndarray:
        return self.images[position]

    def file_shape(self, position: int) -> tuple[int, int]:
        return self.shapes[position]


def made_rows(n: int, seed: int = 0, *, flaws: bool = False) -> Rows:
    """Return n images of n / 2 patients; `flaws` adds uncertain and missing labels."""
    random = np.random.default_rng(seed)
    labels = (random.random((n, 2)) < 0.5).astype(np.float32)
    labels[:4, 0] = [0, 1, 0, 1]
    if flaws:
        labels[5::7, 1] = -1
        labels[6::7, 1] = np.nan
    names = np.array([f"image{i:04d}" for i in range(n)])
    patients = np.array([f"patient{i // 2:04d}" for i in range(n)])
    return Rows(
        card="made",
        images=names,
        patients=patients,
        studies=np.array([f"study{i}" for i in range(n)]),
        views=np.array(["frontal"] * n),
        labels=labels,
        label_names=LABELS,
        position=np.arange(n),
    )


def made_images(rows: Rows, px: int, seed: int = 0, strength: int = 70) -> np.ndarray:
    """Draw smooth images, each with a texture of its own, and the planted signal."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 170, (len(rows), px // 8, px // 8)).astype(np.float32)
    images = np.kron(coarse, np.ones((8, 8), np.float32)) + random.normal(0, 8, (len(rows), px, px))
    images[:, : px // 3, : px // 3] += strength * (rows.labels[:, :1] == 1)[:, :, None]
    return np.clip(images, 0, 255).astype(np.uint8)


def made_access(
    *, n: int = 60, px: int = 32, seed: int = 0, val: bool = True, flaws: bool = False, sizes: tuple[int, int] = (30, 15)
) -> Access:
    """Open a made card: `sizes` images train, then val, the rest test."""
    rows = made_rows(n, seed, flaws=flaws)
    images = made_images(rows, px, seed)
    bounds = {"train": (0, sizes[0]), "val": (sizes[0], sizes[0] + sizes[1]), "test": (sizes[0] + sizes[1], n)}
    if not val:
        del bounds["val"]
    shapes = [(400 + 10 * int(label == 1), 500) for label in rows.labels[:, 0]]
    return Access(
        card="made",
        label_names=LABELS,
        rows_of=lambda split: rows.take(np.arange(*bounds[split])) if split in bounds else None,
        store=lambda size: MemoryStore(images, shapes),
        is_open=lambda split: True,
        policies={"uncertain": "ignore", "missing": "zeros"},
    )
