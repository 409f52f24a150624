"""Decoded images of one card: from the shards of a prepared folder, `cache/images/<key>/`, and from the files where there are none."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.access import ImageStore
from trainers.data.decode import DECODER_VERSION, FULL_BITS, read_gray
from trainers.data.shards import SHARD, Task, Written, open_shard, small, write_shard
from trainers.errors import DiskFull

#: Cards up to this many images are decoded as a whole when a job first reads them; larger ones by `orchestrate data prepare`.
PREPARED_UP_TO = 20_000
#: Width over height of a radiograph, or the other way round, for a guess of how much room decoded images take.
_ASPECT = 1.25
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
    #: What made data says of itself, which names its pixels; None for real data.
    made: Mapping[str, Any] | None = None
    #: Resized as PIL and torchvision do.
    exact: bool = False
    #: How many bits the numbers of each 16-bit image have; None is all 16.
    bits: Sequence[int] | None = None

    def read(self, position: int) -> np.ndarray:
        """Return an image as its file has it, uint8 (height, width). Raises DataError naming the file when it cannot be decoded."""
        return read_gray(self.file(position), FULL_BITS if self.bits is None else self.bits[int(position)])

    def file(self, position: int) -> Path:
        """Return the file of an image."""
        return self.files[int(position)]

    def key(self, px: int) -> str:
        """Return the name of the prepared folder: it depends on neither where the data lies nor what the labels are."""
        step = max(1, len(self.names) // _SIZES)
        content = {
            "decoder": DECODER_VERSION,
            "made": self.made,
            "paths": hashlib.sha256("\n".join(map(str, self.names)).encode()).hexdigest(),
            "sizes": [_size(file) for file in self.files[::step]],
            "px": px,
            **({"resized": "exact"} if self.exact else {}),
        }
        if self.bits is not None:
            content["bits"] = hashlib.sha256(bytes(self.bits)).hexdigest()
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def tasks(self, px: int, cache: Path) -> list[Task]:
        """Return the shards of the prepared folder, each with the files of its images."""
        folder = cache / "images" / self.key(px)
        starts = range(0, len(self.files), SHARD)
        return [
            Task(
                file=folder / f"{start // SHARD:06d}",
                images=self.files[start : start + SHARD],
                px=px,
                exact=self.exact,
                bits=None if self.bits is None else self.bits[start : start + SHARD],
            )
            for start in starts
        ]


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
        full = self._gallery.read(position)
        entry = (small(full, self.px, exact=self._gallery.exact), (full.shape[0], full.shape[1]))
        with self._remembering:
            if position in self._known:
                return self._known[position]
            self._known[position] = entry
            self._left -= entry[0].nbytes
            while self._left < 0 and len(self._known) > 1:
                self._left += self._known.popitem(last=False)[1][0].nbytes
        return entry


class PreparedStore:
    """Images of a prepared folder; those of a shard that is not there, or that could not be decoded, are read from their files."""

    def __init__(self, gallery: Gallery, px: int, cache: Path) -> None:
        self.px = px
        self._files = FileStore(gallery, px)
        self._shards = [open_shard(task.file, len(task.images)) for task in gallery.tasks(px, cache)]

    @property
    def prepared(self) -> int:
        """Return how many images come from shards."""
        return sum(len(shard.shapes) for shard in self._shards if shard is not None)

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8 (height, width), read-only. Raises DataError naming the file when it cannot be decoded."""
        shard = self._shards[position // SHARD]
        if shard is None or not shard.shapes[position % SHARD][0]:
            return self._files.image(position)
        return shard.image(position % SHARD)

    def file_shape(self, position: int) -> tuple[int, int]:
        """Return the (height, width) of the file. Raises DataError naming the file when it cannot be decoded."""
        shard = self._shards[position // SHARD]
        shape = (0, 0) if shard is None else shard.file_shapes[position % SHARD]
        return shape if shape[0] else self._files.file_shape(position)


class JoinedStore:
    """The images of a union: those of its members, each from its own store, so that what a member has prepared serves every union."""

    def __init__(self, px: int, stores: Sequence[ImageStore], where: Sequence[tuple[int, int]]) -> None:
        self.px = px
        self._stores = stores
        #: For each position the store, and the position there.
        self._where = where

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8 (height, width). Raises DataError naming the file when it cannot be decoded."""
        store, there = self._where[position]
        return self._stores[store].image(there)

    def file_shape(self, position: int) -> tuple[int, int]:
        """Return the (height, width) of the file. Raises DataError naming the file when it cannot be decoded."""
        store, there = self._where[position]
        return self._stores[store].file_shape(there)


def open_store(gallery: Gallery, px: int, cache: Path, prepared_up_to: int = PREPARED_UP_TO) -> ImageStore:
    """Return the images of a card with short side `px`: prepared under `cache` first unless there are too many, else as far as they are."""
    if px < 1:
        raise ValueError(f"px is {px}, and an image has at least one pixel")
    if len(gallery.names) <= prepared_up_to:
        prepare(gallery, px, cache)
    store = PreparedStore(gallery, px, cache)
    return store if store.prepared or len(gallery.names) <= prepared_up_to else FileStore(gallery, px)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What a prepared folder holds."""

    folder: Path
    images: int
    bytes: int
    #: A sentence for each image that could not be decoded.
    faults: tuple[str, ...]


def prepare(
    gallery: Gallery, px: int, cache: Path, *, workers: int = 1, again: bool = False, done: Callable[[int], None] = lambda images: None
) -> Prepared:
    """Decode every image that is not decoded yet; `done` is told how many are, shard by shard.

    A run that was killed goes on where it was, several commands at once share the work, and workers are processes. `again` tries anew what
    could not be decoded before. Raises DiskFull.
    """
    tasks = [replace(task, again=again) for task in gallery.tasks(px, cache)]
    folder = cache / "images" / gallery.key(px)
    try:
        written = [_told(one, done) for one in _write_all(tasks, workers)]
    except DiskFull:
        # Whole shards stay; a folder without one goes.
        _forget_locks(folder)
        raise
    if any(task.file.with_name(f".{task.file.name}.lock").exists() for task in tasks):
        _forget_locks(folder)
    return Prepared(
        folder=folder,
        images=sum(one.images for one in written),
        bytes=sum(one.bytes for one in written),
        faults=tuple(fault for one in written for fault in one.faults),
    )


def room_for(gallery: Gallery, px: int, cache: Path) -> int:
    """Return about how many bytes the images that are not decoded yet will take. Raises DiskFull when the disk has less."""
    missing = sum(len(task.images) for task in gallery.tasks(px, cache) if not task.file.is_file())
    needed = int(missing * px * px * _ASPECT)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise DiskFull(
            f"{missing:,} images of '{gallery.card}' at {px} px will take about {needed / 1e9:.1f} GB decoded, and {cache} has "
            f"{free / 1e9:.1f} GB left: free some, or move run_root to a larger disk"
        )
    return needed


def _write_all(tasks: Sequence[Task], workers: int) -> Iterator[Written]:
    """Yield what became of every task; those that another process holds come last."""
    found = {task.file: open_shard(task.file, len(task.images)) for task in tasks}
    found = {
        task.file: None if one is not None and task.again and one.faults else one for task, one in zip(tasks, found.values(), strict=True)
    }
    yield from (shard.written for shard in found.values() if shard is not None)
    left = [task for task in tasks if found[task.file] is None]
    taken: list[Task] = []
    for task, one in zip(left, _side_by_side(left, workers), strict=True):
        if one.mine:
            yield one
        else:
            taken.append(task)
    for task in taken:
        yield write_shard(task, wait=True)


def _side_by_side(tasks: Sequence[Task], workers: int) -> Iterator[Written]:
    if workers < 2 or len(tasks) < 2:
        yield from map(write_shard, tasks)
        return
    # Forking a process that has threads can hang; what a new one imports here is no torch.
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(write_shard, tasks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _told(one: Written, done: Callable[[int], None]) -> Written:
    done(one.images)
    return one


def _forget_locks(folder: Path) -> None:
    """Delete lock files, which nobody needs once every shard is there; whoever still holds one writes the same bytes."""
    for lock in folder.glob(".*.lock"):
        lock.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
