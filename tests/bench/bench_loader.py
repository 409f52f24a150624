"""Pairs of views a second: ours from decoded images and from files, beside the loader that the originals share.

Theirs is written from MoCo-CXR's description: PIL opens a file and makes it RGB, torchvision resizes the short side, flips, turns and crops
an image at a time, twice, in a DataLoader of two worker processes. Ours draws the same views (flip, turn by up to 10 degrees, crop) in two
threads, of one channel, since a radiograph has one. Both end with normalised float32 batches. Wall time on two cores, in turns, the best of
some rounds. The images are made, written as JPEG of 390 x 320 pixels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as published

from tests.bench.bench_loop import Nowhere
from tests.bench.rows import Row
from tests.trainers.made_data import made_access
from trainers.api import Setup
from trainers.data import transforms
from trainers.data.access import ImageStore
from trainers.data.images import FileStore, Gallery, open_store
from trainers.data.phantom.layout import write_chexpert
from trainers.data.workers import set_workers
from trainers.loop import fit, prepare
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config

PX, BATCH, IMAGES, ROUNDS, THREADS = 224, 64, 1536, 3, 2
SHAPE = (320, 390)
#: What sweeps/quickstart.yaml pretrains with.
QUICKSTART: Mapping[str, Any] = {
    "arch": "slim",
    "px": 64,
    "channels": 1,
    "batch_size": 64,
    "queue_size": 512,
    "momentum": 0.99,
    "temperature": 0.2,
    "augment": "cxr_plus",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.05,
    "decay_norms": False,
    "schedule": "cosine",
    "warmup": 0.05,
    "precision": "bf16",
    "collapse_guard": False,
}


class Published(Dataset[tuple[Any, Any]]):
    """Two views of a file, as the originals draw them."""

    def __init__(self, files: list[Path], px: int = PX) -> None:
        self._files = files
        self._view = published.Compose(
            [
                published.Resize(px),
                published.RandomHorizontalFlip(),
                published.RandomRotation(10),
                published.RandomCrop(px),
                published.ToTensor(),
                published.Normalize([0.5020] * 3, [0.085585] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = Image.open(self._files[index]).convert("RGB")
        return self._view(image), self._view(image)


def make(folder: Path) -> Gallery:
    """Write images of a release's shape."""
    made = write_chexpert(folder / "made", patients_train=IMAGES // 16, max_studies=1, px=320)
    drawn = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(made.root.rglob("*.jpg"))]
    names = [f"{number:05d}.jpg" for number in range(IMAGES)]
    for number, name in enumerate(names):
        image = cv2.resize(drawn[number % len(drawn)], SHAPE[::-1])
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return Gallery(card="made", names=names, files=[folder / name for name in names])


def ours(store: ImageStore, epoch: int) -> float:
    """Return seconds for a pair of views of every image."""
    order = np.random.default_rng(epoch).permutation(IMAGES)
    augment = transforms.AUGMENTS["cxr_paper"]
    start = time.perf_counter()
    for first in range(0, IMAGES, BATCH):
        for view in (0, 1):
            batch = transforms.batch(store, order[first : first + BATCH], PX, augment, seed=0, epoch=epoch, view=view)
            torch.from_numpy(transforms.normalize(batch, "cxr"))
    return time.perf_counter() - start


def theirs(gallery: Gallery) -> float:
    """Return seconds for a pair of views of every image, without the start of the worker processes."""
    batches = iter(DataLoader(Published(list(gallery.files) + list(gallery.files[: 4 * BATCH])), BATCH, shuffle=True, num_workers=THREADS))
    for _ in range(4):
        next(batches)
    start = time.perf_counter()
    for _ in range(IMAGES // BATCH):
        next(batches)
    return time.perf_counter() - start


def waiting() -> float:
    """Return which share of the wall time the quickstart's pretraining waits for a batch, in the real loop, in one thread."""
    config = Config(**QUICKSTART, epochs=2)
    prepare(0, 1, torch.device("cpu"))
    method: Any = train.build(Setup(config=config, seed=0, data=made_access(n=640, px=64, sizes=(512, 64)), device=torch.device("cpu")))
    drawn, waited = method.batches, [0.0]

    def timed(epoch: int, start: int = 0) -> Iterator[Any]:
        source = drawn(epoch, start)
        while True:
            before = time.perf_counter()
            batch = next(source, None)
            waited[0] += time.perf_counter() - before
            if batch is None:
                return
            yield batch

    method.batches = timed
    start = time.perf_counter()
    fit(method, config, Nowhere(), device=torch.device("cpu"))
    return waited[0] / (time.perf_counter() - start)


def measure() -> list[Row]:
    """Return pairs of views a second, and how long a step waits for them."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    set_workers(THREADS)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        gallery = make(Path(name))
        cached = open_store(gallery, PX, Path(name) / "cache")
        ways: dict[str, Callable[[int], float]] = {
            "cache": lambda epoch: ours(cached, epoch),
            # Remembers nothing, so that every view pair decodes its file twice, as a data set larger than memory does at most.
            "files": lambda epoch: ours(FileStore(gallery, PX, remembered_bytes=BATCH * PX * PX * 2), epoch),
            "published": lambda epoch: theirs(gallery),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for epoch in range(ROUNDS):
            for way, run in ways.items():
                seconds[way].append(run(epoch))
    set_workers(1)
    waits = waiting()
    best = {way: min(found) for way, found in seconds.items()}
    note = f"{IMAGES:,} images, batches of {BATCH}, {THREADS} threads or workers, best of {ROUNDS} rounds"
    rows = [
        Row(
            what=what,
            ours=f"{IMAGES / best[way]:,.0f} pairs a second",
            beside=f"{IMAGES / best['published']:,.0f} (PIL and torchvision in a DataLoader)",
            against=f"{best['published'] / best[way]:.1f} times faster",
            note=note,
        )
        for way, what in (("cache", f"pairs of views at {PX} px from decoded images"), ("files", f"pairs of views at {PX} px from files"))
    ]
    text = "the aim is below 5 %"
    return [*rows, Row(what="quickstart's pretraining waits for its batch", ours=f"{waits:.1%} of the time", against=text, note="1 thread")]
