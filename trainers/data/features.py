"""Features of images under a frozen network: computed once for all jobs that want them, and kept beside the decoded images.

The images of a part (`trainers.data.access.Part`) are cut into blocks in their order. A block is computed whole or not at all, so what a
feature is does not depend on which job asked first; of several jobs that want it one computes it and the others take it.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from trainers.data.access import Access, Rows
from trainers.data.shards import claimed, full_disk_is_said

#: Images in a block: some seconds of work, so that a kill costs little and jobs side by side can share it.
BLOCK = 512
#: Images a forward pass: the same for every job, as it can show in the last bits.
PASS = 64

#: Positions (n,) to features (n, d) float32.
Compute = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Some images that follow each other in a part, and the file of their features; None where nothing is kept."""

    positions: np.ndarray
    file: Path | None


def features_of(access: Access, rows: Rows, px: int, *, exact: bool, network: Mapping[str, Any], compute: Compute) -> np.ndarray:
    """Return the features of rows that `access` has opened, (n, d) float32, in their order.

    `network` is all that the features depend on besides the images. Raises DiskFull, and DataError for an image that cannot be read.
    """
    folder = None if access.features is None else access.features(px, exact) / _digest(json.dumps(dict(network), sort_keys=True))
    wanted = [block for block in _blocks(access.parts(rows), folder) if np.isin(block.positions, rows.position).any()]
    found = _all_of(wanted, compute)
    positions = np.concatenate([block.positions for block in wanted])
    order = np.argsort(positions)
    return np.concatenate(found)[order[np.searchsorted(positions, rows.position, sorter=order)]]


def _blocks(parts: Sequence[Rows], folder: Path | None) -> Iterator[_Block]:
    for part in parts:
        for start in range(0, len(part), BLOCK):
            images, positions = part.images[start : start + BLOCK].tolist(), part.position[start : start + BLOCK]
            yield _Block(positions=positions, file=None if folder is None else folder / f"{_digest(chr(10).join(images))}.npz")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _all_of(blocks: Sequence[_Block], compute: Compute) -> list[np.ndarray]:
    """Return the features of every block; those that another process holds come last."""
    found: dict[int, np.ndarray] = {}
    for wait in (False, True):
        for at, block in enumerate(blocks):
            if at not in found and (features := _of(block, compute, wait=wait)) is not None:
                found[at] = features
    return [found[at] for at in range(len(blocks))]


def _of(block: _Block, compute: Compute, *, wait: bool) -> np.ndarray | None:
    """Return the features of a block, or None when another process is computing them and we do not `wait`."""
    if block.file is None:
        return _passes(block.positions, compute)
    there = _read(block.file, len(block.positions))
    if there is not None:
        return there
    with full_disk_is_said(block.file.parent.parent, "features"):
        block.file.parent.mkdir(parents=True, exist_ok=True)
        lock = block.file.with_name(f".{block.file.name}.lock")
        with claimed(lock, wait) as mine:
            if not mine:
                return None
            there = _read(block.file, len(block.positions))
            if there is None:
                there = _passes(block.positions, compute)
                _write(block.file, there)
        lock.unlink(missing_ok=True)
    return there


def _passes(positions: np.ndarray, compute: Compute) -> np.ndarray:
    return np.concatenate([compute(positions[start : start + PASS]) for start in range(0, len(positions), PASS)])


def _read(file: Path, count: int) -> np.ndarray | None:
    """Return what a file holds; None when it is not there, and when it is not what was written."""
    try:
        with np.load(file) as kept:
            features, digest = kept["features"], str(kept["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    whole = len(features) == count and hashlib.sha256(features.tobytes()).hexdigest() == digest
    return features if whole else None


def _write(file: Path, features: np.ndarray) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with aside.open("wb") as opened:
            np.savez(opened, features=features, sha256=np.array(hashlib.sha256(features.tobytes()).hexdigest()))
            opened.flush()
            os.fsync(opened.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
