"""What images cost: making them, decoding them once into the cache, and drawing views of them; CPU time of one thread.

Views are `cxr_plus` (turn, crop, shade) and normalised, in batches of 64; beside them torchvision's transforms for the same, an image at a
time.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from tests.bench.rows import Row
from trainers.data import transforms
from trainers.data.access import ImageStore
from trainers.data.images import Gallery, open_store
from trainers.data.phantom.layout import Made, write_chexpert
from trainers.data.phantom.layouts.chexpert import DATASET

BATCH, ROUNDS = 64, 5
#: Sides of made images: how many patients, and how many batches of views a round.
SIDES = {64: (400, 20), 320: (60, 3)}


def make(folder: Path, px: int, patients: int) -> tuple[Made, float]:
    """Make images, and return them with CPU seconds an image."""
    start = time.process_time()
    made = write_chexpert(folder, patients_train=patients, px=px)
    return made, (time.process_time() - start) / made.images


def decode(made: Made, px: int, cache: Path) -> tuple[ImageStore, int, float]:
    """Decode every image into a new cache, and return the store, the number of images and CPU seconds an image."""
    paths = sorted(str(path.relative_to(made.root / DATASET)) for path in (made.root / DATASET).rglob("*.jpg"))
    gallery = Gallery(card="made", names=paths, files=[made.root / DATASET / path for path in paths])
    start = time.process_time()
    store = open_store(gallery, px, cache)
    return store, len(paths), (time.process_time() - start) / len(paths)


def ours(store: ImageStore, images: int, px: int, batches: int, epoch: int) -> float:
    """Return CPU seconds a view, as a method draws them."""
    positions = np.random.default_rng(epoch).integers(0, images, (batches, BATCH))
    augment = transforms.AUGMENTS["cxr_plus"]
    start = time.process_time()
    for some in positions:
        transforms.normalize(transforms.batch(store, some, px, augment, seed=0, epoch=epoch), "cxr")
    return (time.process_time() - start) / positions.size


def theirs(store: ImageStore, images: int, px: int, batches: int, epoch: int) -> float:
    """Return CPU seconds a view by torchvision: the same turn, crop and shade, stacked into a batch."""
    augment = transforms.AUGMENTS["cxr_plus"]
    view = v2.Compose(
        [
            v2.RandomRotation([-augment.rotate, augment.rotate], interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomResizedCrop(px, scale=augment.scale, ratio=augment.ratio, antialias=True),
            v2.ColorJitter(brightness=augment.brightness, contrast=augment.contrast),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*transforms.channel_statistics("cxr")),
        ]
    )
    positions = np.random.default_rng(epoch).integers(0, images, (batches, BATCH))
    start = time.process_time()
    for some in positions:
        torch.stack([view(torch.from_numpy(np.array(store.image(position)))[None]) for position in some.tolist()])
    return (time.process_time() - start) / positions.size


def measure() -> list[Row]:
    """Return images and views a second, at each size."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    rows: list[Row] = []
    for px, (patients, batches) in SIDES.items():
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            made, making = make(Path(name) / "made", px, patients)
            store, images, decoding = decode(made, px, Path(name) / "cache")
            here, beside = [], []
            for epoch in range(ROUNDS):
                here.append(ours(store, images, px, batches, epoch))
                beside.append(theirs(store, images, px, batches, epoch))
        mine, other = min(here), min(beside)
        rows += [
            Row(what=f"made radiographs, {px} px", ours=f"{1 / making:,.0f} a second", note=f"drawn and written as JPEG; {images} images"),
            Row(what=f"decoded into the cache, {px} px", ours=f"{1 / decoding:,.0f} a second", note="once a card and size"),
            Row(
                what=f"views, {px} px",
                ours=f"{1 / mine:,.0f} a second",
                beside=f"{1 / other:,.0f} a second (torchvision)",
                against=f"{other / mine:.1f} times faster",
                note=f"best of {ROUNDS} rounds of {batches * BATCH:,}, in turns",
            ),
        ]
    return rows
