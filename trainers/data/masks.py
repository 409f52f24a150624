"""Masks of structures at a working size: decoded once, kept under `cache/masks/<key>/`, and handed out behind the gate of `access.py`.

The whole image is brought to a square, so a mask is too. How it is made small is a matter of taste that changes results:

- `coverage`: parts joined as truth values, then resized by area: how much of each pixel the structure covers, as 0 to 255;
- `published`: each part resized by area, parts added as bytes, which wrap (128 + 128 = 0), and all that is above 0 marked whole, so that a
  structure is about a pixel wider (BenchmarkTransformersSegmentation, `dataloader.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from trainers.data.located import Located
from trainers.data.regions import masks_of, parts_of
from trainers.data.shards import claimed, full_disk_is_said
from trainers.data.workers import spread
from trainers.errors import DataError

COVERAGE, PUBLISHED = "coverage", "published"
#: Bumped when the same masks on disk give other small ones.
MASKS_VERSION = 1
#: Images in a file of the cache.
BLOCK = 64
_OPEN_BLOCKS = 512


class FileMasks:
    """Masks of a data set that is no union, in order of position."""

    def __init__(self, place: Located, images: Sequence[str], px: int, how: str, cache: Path, digests: Mapping[str, str]) -> None:
        self.px = px
        self.structures = place.card.label_names
        self._place, self._images, self._how = place, images, how
        self._folder = cache / "masks" / _key(place, images, px, how, digests)
        self._block = lru_cache(_OPEN_BLOCKS)(self._opened)

    def mask(self, position: int) -> np.ndarray:
        """Return the masks of an image, uint8 (structures, px, px), read-only. Raises DataError naming the file."""
        return self._at(position)[0]

    def known(self, position: int) -> np.ndarray:
        """Return which structures are annotated, bool (structures,). Raises DataError naming the file."""
        return np.array(self._at(position)[1], dtype=bool)

    def full(self, position: int) -> Mapping[str, np.ndarray]:
        """Return the annotated structures as on disk, uint8 (height, width), 1 inside. Raises DataError naming the file."""
        return masks_of(self._place, self._images[position])

    def _at(self, position: int) -> tuple[np.ndarray, list[bool]]:
        masks, about = self._block(position // BLOCK)
        at = position % BLOCK
        if (fault := about["faults"].get(str(at))) is not None:
            raise DataError(fault)
        return masks[at], about["known"][at]

    def _opened(self, block: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a block of the cache, made first when it is not there; what is written about it comes last and says that it is whole."""
        about, pixels = self._folder / f"{block:06d}.json", self._folder / f"{block:06d}.npy"
        with full_disk_is_said(self._folder.parent, "masks"):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not about.is_file():
                with claimed(self._folder / f".{block:06d}.lock", wait=True):
                    if not about.is_file():
                        self._write(block, about, pixels)
        return np.load(pixels, mmap_mode="r"), json.loads(about.read_text(encoding="utf-8"))

    def _write(self, block: int, about: Path, pixels: Path) -> None:
        images = self._images[block * BLOCK : (block + 1) * BLOCK]
        masks = np.zeros((len(images), len(self.structures), self.px, self.px), np.uint8)
        known = np.zeros(masks.shape[:2], dtype=bool)
        faults: dict[str, str] = {}

        def draw(part: slice) -> None:
            for at in range(*part.indices(len(images))):
                try:
                    found = small_masks(self._place, images[at], self.px, self._how)
                except DataError as error:
                    # Only who asks for this image is stopped by it: it may belong to a split that a job never opens.
                    faults[str(at)] = str(error)
                    continue
                for index, name in enumerate(self.structures):
                    known[at, index] = name in found
                    masks[at, index] = found.get(name, 0)

        spread(draw, len(images))
        _into_place(pixels, lambda file: np.save(file, masks))
        content = {"known": known.tolist(), "faults": faults}
        _into_place(about, lambda file: file.write(json.dumps(content).encode()))


def small_masks(place: Located, image: str, px: int, how: str) -> dict[str, np.ndarray]:
    """Return the annotated structures of an image as squares, uint8 (px, px): 255 where a pixel is wholly inside. Raises DataError."""
    if how == COVERAGE:
        return {name: _square(mask * np.uint8(255), px) for name, mask in masks_of(place, image).items()}
    if how != PUBLISHED:
        raise ValueError(f"masks '{how}': there are {COVERAGE} and {PUBLISHED}")
    return {name: published(parts, px) for name, parts in parts_of(place, image).items()}


def published(parts: Sequence[np.ndarray], px: int) -> np.ndarray:
    """Return the parts of a structure, uint8 with 255 inside, as one square mask of 0 and 255: resized, added with wrap-around, above 0."""
    total = np.zeros((px, px), np.uint8)
    for part in parts:
        # In numpy bytes wrap, as they did there.
        total += _square(part, px)
    return np.where(total > 0, 255, 0).astype(np.uint8)


def _square(mask: np.ndarray, px: int) -> np.ndarray:
    how = cv2.INTER_AREA if px < min(mask.shape) else cv2.INTER_LINEAR
    return mask if mask.shape == (px, px) else cv2.resize(mask, (px, px), interpolation=how)


def _key(place: Located, images: Sequence[str], px: int, how: str, digests: Mapping[str, str]) -> str:
    """Return what masks are known by: what they are of, the files that determine them, and how they were made small."""
    content = {
        "version": MASKS_VERSION,
        "card": place.card.name,
        "structures": list(place.card.labels.items()),
        "files": dict(digests),
        "made": place.made(),
        "images": hashlib.sha256("\n".join(images).encode()).hexdigest(),
        "px": px,
        "how": how,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _into_place(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file aside and rename it in, so that readers never see half of one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
