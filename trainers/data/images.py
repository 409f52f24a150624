"""Decoded images of one card: once decoded into a memory-mapped file, or decoded when asked for when a card is large.

A prepared folder is `cache/images/<key>/`: `data.bin`, the pixels of all images one after another, and `index.npz` with where each starts,
its shape, and the shape of its file. It is written aside and renamed in, so that processes that prepare at once never see half of it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.access import ImageStore
from trainers.data.decode import DECODER_VERSION, read_gray, shrink
from trainers.errors import DataError, DiskFull

#: Cards up to this many images are decoded as a whole, once.
PREPARED_UP_TO = 20_000
#: What a process remembers of images that it decodes as they are asked for.
REMEMBERED_BYTES = 256 * 2**20
#: How many files' sizes go into the key, evenly spaced: enough to notice images that were made or copied anew.
_SIZES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """The image files of a card in order of position, and what names their content."""

    card: str
    #: What images are called in the card's index.
    names: Sequence[str]
    files: Sequence[Path]
    #: sha256 of the label files, and what made data says of itself.
    digests: Mapping[str, Any]

    def file(self, position: int) -> Path:
        """Return the file of an image."""
        return self.files[int(position)]

    def key(self, px: int) -> str:
        """Return the name of the prepared folder: it does not depend on where the data lies."""
        step = max(1, len(self.names) // _SIZES)
        content = {
            "decoder": DECODER_VERSION,
            "card": self.card,
            "digests": dict(self.digests),
            "paths": hashlib.sha256("\n".join(map(str, self.names)).encode()).hexdigest(),
            "sizes": [_size(file) for file in self.files[::step]],
            "px": px,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


class FileStore:
    """Images decoded as they are asked for; the last few hundred megabytes are remembered."""

    def __init__(self, gallery: Gallery, px: int, remembered_bytes: int = REMEMBERED_BYTES) -> None:
        self.px = px
        self._gallery = gallery
        self._left = remembered_bytes
        self._known: OrderedDict[int, tuple[np.ndarray, tuple[int, int]]] = OrderedDict()
        #: Threads ask at once; decoding, which is what takes the time, is done outside it.
        self._remembering = threading.Lock()

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8 (height, width). Raises DataError naming the file when it cannot be decoded."""
        return self._entry(int(position))[0]

    def file_shape(self, position: int) -> tuple[int, int]:
        """Return the (height, width) of the file. Raises DataError naming the file when it cannot be decoded."""
        return self._entry(int(position))[1]

    def _entry(self, position: int) -> tuple[np.ndarray, tuple[int, int]]:
        with self._remembering:
            if position in self._known:
                self._known.move_to_end(position)
                return self._known[position]
        full = read_gray(self._gallery.file(position))
        entry = (shrink(full, self.px), (full.shape[0], full.shape[1]))
        with self._remembering:
            if position in self._known:
                return self._known[position]
            self._known[position] = entry
            self._left -= entry[0].nbytes
            while self._left < 0 and len(self._known) > 1:
                self._left += self._known.popitem(last=False)[1][0].nbytes
        return entry


class PreparedStore:
    """Images of a prepared folder. One that could not be decoded then is tried again when it is asked for, and raises then."""

    def __init__(self, folder: Path, gallery: Gallery, px: int) -> None:
        self.px = px
        self._files = FileStore(gallery, px, remembered_bytes=0)
        with np.load(folder / "index.npz") as index:
            self._starts = index["starts"].tolist()
            self._shapes = [(int(height), int(width)) for height, width in index["shapes"]]
            self._file_shapes = [(int(height), int(width)) for height, width in index["file_shapes"]]
        size = (folder / "data.bin").stat().st_size
        if size != self._starts[-1] or len(self._shapes) != len(gallery.names):
            raise _TornError
        # A view as a plain array: slicing a memmap object costs ten times as much.
        self._data = np.memmap(folder / "data.bin", np.uint8, mode="r").view(np.ndarray) if size else np.empty(0, np.uint8)

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8 (height, width), read-only. Raises DataError naming the file when it cannot be decoded."""
        shape = self._shapes[position]
        if shape[0] == 0:
            return self._files.image(position)
        return self._data[self._starts[position] : self._starts[position + 1]].reshape(shape)

    def file_shape(self, position: int) -> tuple[int, int]:
        """Return the (height, width) of the file. Raises DataError naming the file when it cannot be decoded."""
        shape = self._file_shapes[position]
        return shape if shape[0] else self._files.file_shape(position)


class _TornError(Exception):
    """A prepared folder is not what it should be."""


def open_store(gallery: Gallery, px: int, cache: Path, prepared_up_to: int = PREPARED_UP_TO) -> ImageStore:
    """Return the images of a card with short side `px`, prepared under `cache` unless there are too many of them."""
    if px < 1:
        raise ValueError(f"px is {px}, and an image has at least one pixel")
    if len(gallery.names) > prepared_up_to:
        return FileStore(gallery, px)
    folder = cache / "images" / gallery.key(px)
    for _ in range(2):
        if not folder.is_dir():
            _prepare(gallery, px, folder)
        try:
            return PreparedStore(folder, gallery, px)
        except (_TornError, OSError, ValueError, KeyError):
            shutil.rmtree(folder, ignore_errors=True)
    raise DataError(f"the decoded images at {folder} cannot be read back: delete that folder and check the disk")


def _prepare(gallery: Gallery, px: int, folder: Path) -> None:
    """Decode every image into a folder aside and rename it in; whoever comes second throws theirs away."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        aside.mkdir(parents=True)
        _write(gallery, px, aside)
        try:
            aside.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no space left for decoded images under {folder.parent}: free some, or move run_root to a larger disk"
            ) from error
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(gallery: Gallery, px: int, folder: Path) -> None:
    count = len(gallery.names)
    starts = np.zeros(count + 1, np.int64)
    shapes = np.zeros((count, 2), np.int32)
    file_shapes = np.zeros((count, 2), np.int32)
    with (folder / "data.bin").open("wb") as data:
        for position in range(count):
            starts[position + 1] = starts[position]
            try:
                full = read_gray(gallery.file(position))
            except DataError:
                # Only who asks for this image is stopped by it: it may belong to a split that the job never opens.
                continue
            image = shrink(full, px)
            data.write(np.ascontiguousarray(image).data)
            starts[position + 1] += image.nbytes
            shapes[position], file_shapes[position] = image.shape, full.shape
        data.flush()
        os.fsync(data.fileno())
    with (folder / "index.npz").open("wb") as index:
        np.savez(index, starts=starts, shapes=shapes, file_shapes=file_shapes)
        index.flush()
        os.fsync(index.fileno())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
