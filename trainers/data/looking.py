"""Every image of a card opened once: which cannot be read, how large they are, and what they look like. What is known is not read again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.data.decode import DECODER_VERSION, FULL_BITS, read_gray
from trainers.data.duplicates import threads
from trainers.data.fingerprints import FINGERPRINT_VERSION, fingerprint
from trainers.errors import DataError

#: Called with how many images were looked at, and how many there are.
Step = Callable[[int, int], None]
_PART = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What images look like, in the order of their files."""

    files: Sequence[Path]
    #: uint64 (n, 4); of no meaning where `shown` is False.
    prints: np.ndarray
    #: (n,) bool: the image could be read and is not of one grey.
    shown: np.ndarray
    #: int64 (n, 2): height and width, 0 for a file that cannot be read.
    shapes: np.ndarray
    #: Number of the image -> what is wrong with its file.
    broken: dict[int, str] = field(default_factory=dict)


#: Returns an image by its number, smaller than its file, and the height and width of that. Raises DataError.
Read = Callable[[int], tuple[np.ndarray, tuple[int, int]]]


def look(
    files: Sequence[Path],
    cache: Path | None = None,
    step: Step = lambda done, total: None,
    *,
    again: bool = True,
    decoded: Read | None = None,
    bits: Sequence[int] | None = None,
) -> Looked:
    """Open images, on all CPUs. `again=False` takes what `cache` remembers of files of the same size and time of change.

    `decoded` gives images that are decoded already, in place of their files; `bits` is how many bits the numbers of each 16-bit image
    have, None is all 16.
    """
    read = decoded or (lambda at: _from_file(files[at], FULL_BITS if bits is None else bits[at]))
    known = _known(files, cache) if cache is not None and not again else {}
    count = len(files)
    looked = Looked(
        files=files, prints=np.zeros((count, 4), np.uint64), shown=np.zeros(count, bool), shapes=np.zeros((count, 2), np.int64), broken={}
    )
    wanted: list[int] = []
    for at, file in enumerate(files):
        entry = known.get(_stamp(file)) if known else None
        if entry is None:
            wanted.append(at)
        else:
            looked.prints[at], looked.shown[at], looked.shapes[at] = entry
    done = count - len(wanted)
    step(done, count)
    with ThreadPoolExecutor(threads()) as pool:
        for start in range(0, len(wanted), _PART):
            part = wanted[start : start + _PART]
            for at, found in zip(part, pool.map(lambda at: _open(read, at), part), strict=True):
                _keep(looked, at, found)
            done += len(part)
            step(done, count)
    if cache is not None:
        _remember(looked, cache)
    return looked


def _keep(looked: Looked, at: int, found: tuple[np.ndarray | None, tuple[int, int]] | str) -> None:
    if isinstance(found, str):
        looked.broken[at] = found
        return
    bits, looked.shapes[at] = found
    if bits is not None:
        looked.prints[at], looked.shown[at] = bits, True


def _from_file(file: Path, bits: int) -> tuple[np.ndarray, tuple[int, int]]:
    image = read_gray(file, bits)
    return image, (image.shape[0], image.shape[1])


def _open(read: Read, at: int) -> tuple[np.ndarray | None, tuple[int, int]] | str:
    try:
        image, shape = read(at)
    except DataError as error:
        return str(error)
    return fingerprint(image), shape


# --- what is remembered


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        about = file.stat()
    except OSError:
        return (str(file), -1, -1)
    return (str(file), about.st_size, about.st_mtime_ns)


def _place(files: Sequence[Path], cache: Path) -> Path:
    named = hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest()[:32]
    return cache / "fingerprints" / f"{named}-{FINGERPRINT_VERSION}-{DECODER_VERSION}.npz"


def _known(files: Sequence[Path], cache: Path) -> dict[tuple[str, int, int], tuple[np.ndarray, bool, np.ndarray]]:
    try:
        with np.load(_place(files, cache)) as content:
            kept = {name: content[name] for name in ("at", "sizes", "times", "prints", "shown", "shapes")}
        return {
            (str(files[at]), int(size), int(time)): (bits, bool(shown), shape)
            for at, size, time, bits, shown, shape in zip(*kept.values(), strict=True)
        }
    except (OSError, ValueError, KeyError, IndexError, EOFError):
        return {}


def _remember(looked: Looked, cache: Path) -> None:
    """Keep what was learnt; a cache that cannot be written is no fault."""
    at = np.flatnonzero(looked.shapes[:, 0] > 0)
    stamps = [_stamp(looked.files[one]) for one in at.tolist()]
    file = _place(looked.files, cache)
    aside = file.with_name(f".{file.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    content = {
        "at": at,
        "sizes": np.array([stamp[1] for stamp in stamps], np.int64),
        "times": np.array([stamp[2] for stamp in stamps], np.int64),
        "prints": looked.prints[at],
        "shown": looked.shown[at],
        "shapes": looked.shapes[at],
    }
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as opened:
            np.savez(opened, **content)  # type: ignore[arg-type]
        aside.replace(file)
