"""Decoded images on disk: a folder of shards, each one file that is whole or not there.

A shard holds `SHARD` images that follow each other in a card's index: the pixels of all of them one after another, then an index (npz:
where each image starts, its shape, the shape of its file, and why it could not be decoded), then the length of the index and a magic word.
It is written aside and renamed in, so that readers never see half of one, and what was written before a kill is not written again.
"""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from trainers.data.decode import FULL_BITS, read_gray, shrink
from trainers.data.exact import resized
from trainers.errors import DataError, DiskFull

#: Images in a shard: few enough that a kill costs seconds, enough that a million images are some thousand files.
SHARD = 512
_MAGIC = b"CXRSHARD"
_FOOTER = 16


class TornError(Exception):
    """A shard is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One shard to write: its file, and the files of its images in order."""

    file: Path
    images: Sequence[Path]
    px: int
    #: Resized as PIL and torchvision do.
    exact: bool = False
    #: Write a shard anew that has images which could not be decoded.
    again: bool = False
    #: How many bits the numbers of each 16-bit image have; None is all 16.
    bits: Sequence[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a task; `mine` is False when another process holds it, and nothing was done."""

    images: int = 0
    bytes: int = 0
    faults: tuple[str, ...] = ()
    mine: bool = True


class Shard:
    """One shard, memory-mapped."""

    __slots__ = ("_pixels", "faults", "file_shapes", "shapes", "starts")

    def __init__(self, file: Path) -> None:
        size = file.stat().st_size
        with file.open("rb") as opened:
            opened.seek(max(0, size - _FOOTER))
            footer = opened.read()
            length = int.from_bytes(footer[:8], "little")
            if footer[8:] != _MAGIC or length > size - _FOOTER:
                raise TornError
            opened.seek(size - _FOOTER - length)
            try:
                with np.load(io.BytesIO(opened.read(length))) as index:
                    self.starts: list[int] = index["starts"].tolist()
                    self.shapes: list[tuple[int, int]] = [(int(height), int(width)) for height, width in index["shapes"]]
                    self.file_shapes: list[tuple[int, int]] = [(int(height), int(width)) for height, width in index["file_shapes"]]
                    self.faults: dict[int, str] = dict(zip(index["at"].tolist(), index["faults"].tolist(), strict=True))
            except (ValueError, KeyError, OSError, EOFError) as error:
                raise TornError from error
        pixels = size - _FOOTER - length
        if self.starts[-1] != pixels or len(self.shapes) + 1 != len(self.starts):
            raise TornError
        # A view as a plain array: slicing a memmap object costs ten times as much.
        self._pixels = np.memmap(file, np.uint8, mode="r", shape=(pixels,)).view(np.ndarray) if pixels else np.empty(0, np.uint8)

    def image(self, at: int) -> np.ndarray:
        """Return one image of the shard, uint8 (height, width), read-only."""
        return self._pixels[self.starts[at] : self.starts[at + 1]].reshape(self.shapes[at])

    @property
    def written(self) -> Written:
        """Return what the shard holds."""
        return Written(images=len(self.shapes), bytes=self.starts[-1], faults=tuple(self.faults.values()))


def open_shard(file: Path, images: int) -> Shard | None:
    """Return a shard of so many images, or None when there is none; one that is not what it should be is deleted."""
    try:
        found = Shard(file)
        if len(found.shapes) == images:
            return found
    except FileNotFoundError:
        return None
    except (TornError, OSError):
        pass
    file.unlink(missing_ok=True)
    return None


def small(image: np.ndarray, px: int, *, exact: bool) -> np.ndarray:
    """Return an image with short side `px`, by area or, `exact`, as PIL and torchvision do."""
    return resized(image, px) if exact else shrink(image, px)


def write_shard(task: Task, wait: bool = False) -> Written:
    """Decode a shard's images and rename it in, unless it is there; an image that cannot be decoded is written down as such.

    Of several processes one writes and the others are told so (`mine`), or `wait` for it. Raises DiskFull.
    """
    with full_disk_is_said(task.file.parent.parent, "decoded images"):
        task.file.parent.mkdir(parents=True, exist_ok=True)
        with claimed(task.file.with_name(f".{task.file.name}.lock"), wait) as mine:
            if not mine:
                return Written(mine=False)
            found = open_shard(task.file, len(task.images))
            there = found is not None and not (task.again and found.faults)
            return found.written if found is not None and there else _write(task)


@contextmanager
def full_disk_is_said(folder: Path, what: str) -> Iterator[None]:
    """Turn an error of a full disk into DiskFull, which says of `what` and where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            f"no space left for {what} under {folder}: free some, or move run_root to a larger disk; "
            "the same command goes on with what is done"
        ) from error


@contextmanager
def claimed(lock: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock while a file is written. Where a file system knows none, two may write the same bytes, which does no harm."""
    held = FileLock(lock, timeout=-1 if wait else 0)
    try:
        held.acquire()
    except Timeout:
        yield False
        return
    except NotImplementedError:
        yield True
        return
    try:
        yield True
    finally:
        held.release()


def _write(task: Task) -> Written:
    aside = task.file.with_name(f".{task.file.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with aside.open("wb") as opened:
            starts, shapes, file_shapes, faults = _write_pixels(opened, task)
            index = io.BytesIO()
            np.savez(
                index,
                starts=starts,
                shapes=shapes,
                file_shapes=file_shapes,
                at=np.array(list(faults), np.int64),
                faults=np.array(list(faults.values()), dtype=str),
            )
            opened.write(index.getvalue() + len(index.getvalue()).to_bytes(8, "little") + _MAGIC)
            opened.flush()
            os.fsync(opened.fileno())
        aside.replace(task.file)
    finally:
        aside.unlink(missing_ok=True)
    return Written(images=len(task.images), bytes=int(starts[-1]), faults=tuple(faults.values()))


def _write_pixels(opened: io.BufferedWriter, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    count = len(task.images)
    starts, shapes, file_shapes = np.zeros(count + 1, np.int64), np.zeros((count, 2), np.int32), np.zeros((count, 2), np.int32)
    faults: dict[int, str] = {}
    for at, file in enumerate(task.images):
        starts[at + 1] = starts[at]
        try:
            full = read_gray(file, FULL_BITS if task.bits is None else task.bits[at])
        except DataError as error:
            # Only who asks for this image is stopped by it: it may belong to a split that a job never opens.
            faults[at] = str(error)
            continue
        image = small(full, task.px, exact=task.exact)
        opened.write(np.ascontiguousarray(image).data)
        starts[at + 1] += image.nbytes
        shapes[at], file_shapes[at] = image.shape, full.shape
    return starts, shapes, file_shapes, faults
