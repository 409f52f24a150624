"""Pictures that a job leaves: PNG files of a few fixed images, by name and epoch; what a result says of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import write_atomically
from jobs.spec import Json

_FILE = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]*?)(?:-epoch-(?P<epoch>\d{4,}))?\.png")


@dataclass(frozen=True, slots=True, order=True)
class PictureFile:
    """A picture on disk. `epoch` is 0 where it is of an evaluation, which has none."""

    epoch: int
    name: str
    path: Path


def keep_pictures(folder: Path, pictures: Mapping[str, bytes], epoch: int | None = None) -> None:
    """Write pictures, each whole or not at all. Made again, after a kill, the same ones take the place of the same ones."""
    for name, content in sorted(pictures.items()):
        write_atomically(folder / (f"{name}.png" if epoch is None else f"{name}-epoch-{epoch:04d}.png"), content)


def pictures_in(folder: Path) -> list[PictureFile]:
    """List the pictures of a job in the order in which they were made."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(match, name) for name in names if (match := _FILE.fullmatch(name))]
    return sorted(PictureFile(epoch=int(match["epoch"] or 0), name=match["name"], path=folder / name) for match, name in found)


def told(folder: Path, captions: Mapping[str, str]) -> list[dict[str, Json]]:
    """Return what a result says of the pictures of its job, with what a method says that each shows."""
    found: list[dict[str, Json]] = []
    for picture in pictures_in(folder):
        content = picture.path.read_bytes()
        found.append(
            {
                "name": picture.name,
                "epoch": picture.epoch or None,
                "file": picture.path.name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "caption": captions.get(picture.name, ""),
            }
        )
    return found
