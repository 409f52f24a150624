"""Writing made data in the on-disk layout of a real data set, whole or not at all.

<root>/MADE.json    generator, version, layout, parameters, counts, digests of the label files
<root>/...          what `trainers.data.phantom.layouts` writes
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from trainers.data.phantom.layout_names import CHEXPERT, layout_named
from trainers.data.phantom.parameters import PhantomParameters
from trainers.errors import DataError, DiskFull

_MADE, _MAKING = "MADE.json", "MAKING.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A made data set on disk."""

    root: Path
    images: int
    fingerprint: Mapping[str, Any]
    #: False when it was there already.
    written: bool


def write_chexpert(root: Path, parameters: PhantomParameters | None = None, **changes: Any) -> Made:
    """Write a made data set in CheXpert-small's layout; `changes` are fields that replace those of `parameters` (or the defaults)."""
    return write_made(root, replace(parameters or PhantomParameters(), **changes))


def write_made(root: Path, parameters: PhantomParameters, layout: str = CHEXPERT) -> Made:
    """Write a made data set under `root` in the layout of a real one, or return at once when it is there.

    The set is written aside and renamed, so that `root` holds all of it or nothing; what an interrupted run left is made again; of two
    processes one writes and the other waits.
    Raises DataError when `root` holds anything else, DiskFull when the disk is full.
    """
    wanted = parameters.fingerprint(layout)
    root = Path(root).absolute()
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        if (found := _find(root, wanted)) is not None:
            return found
        aside = root.with_name(f".{root.name}.making")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            content = _write(aside, parameters, layout, wanted)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno not in (None, errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"{root.parent}: made data could not be written ({error.strerror}): free some space, or set `made_root` in the cluster "
                "config to another disk, then type the same command again"
            ) from error
        shutil.rmtree(root, ignore_errors=True)
        aside.rename(root)
    return _made(root, content, written=True)


def _find(root: Path, wanted: Mapping[str, Any]) -> Made | None:
    """Return what is at `root` when it is whole, None when it must be made. Raises DataError when it is not ours to replace."""
    if not root.exists():
        return None
    if (root / _MADE).is_file():
        content = json.loads((root / _MADE).read_text(encoding="utf-8"))
        there = {key: content.get(key) for key in wanted}
        if there != wanted:
            raise DataError(
                f"{root} holds made data with other parameters ({_difference(there, wanted)}): delete it, or choose another place"
            )
        whole = all(_digest(root / name) == digest for name, digest in content["sha256"].items())
        return _made(root, content, written=False) if whole else None
    if (root / _MAKING).is_file() or not any(root.iterdir()):
        return None
    raise DataError(f"{root} holds files that are not made data: choose another place, or move them away")


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    if found.get("layout") != asked.get("layout"):
        return f"layout {found.get('layout') or CHEXPERT}, not {asked.get('layout') or CHEXPERT}"
    if found["version"] != asked["version"]:
        return f"generator version {found['version']}, not {asked['version']}"
    before, now = found.get("parameters") or {}, asked["parameters"]
    changed = [
        f"{name} {before.get(name)!r}, not {now.get(name)!r}" for name in sorted({*before, *now}) if before.get(name) != now.get(name)
    ]
    return "; ".join(changed)


def _made(root: Path, content: Mapping[str, Any], *, written: bool) -> Made:
    said = {key: content[key] for key in ("generator", "version", "layout", "parameters") if key in content}
    return Made(root=root, images=content["images"], fingerprint=said, written=written)


def _write(aside: Path, parameters: PhantomParameters, layout: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Write the whole set into a new folder; `MAKING.json` says whose it is until `MADE.json` says that it is whole."""
    aside.mkdir(parents=True)
    _save(aside / _MAKING, wanted)
    images, label_files = layout_named(layout).write(aside, parameters)
    content = {**wanted, "images": images, "sha256": {name: _digest(aside / name) for name in label_files}}
    _save(aside / _MADE, content)
    (aside / _MAKING).unlink()
    os.sync()
    return content


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _save(path: Path, content: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, sort_keys=True, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_image(path: Path) -> np.ndarray:
    """Read a written image back, uint8 (px, px). Raises DataError when it cannot be decoded."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded")
    return image
