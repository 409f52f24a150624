"""A card's data on disk: where it lies, which files determine its labels, and its rows."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trainers.data.cards import Card, reader_module
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows

#: Lies beside the label files of made data: generator, version, parameters.
MADE_FILE = "MADE.json"


def base_of(card: Card, root: Path) -> Path:
    """Return the folder that a card's label files and image paths start from. Raises DataError when it is not there."""
    if not root.is_dir():
        raise DataError(
            f"data set '{card.name}' is not at {root} (no such folder): "
            f"put its place into your cluster config, such as 'data: {{{card.place}: /path/to/{card.place}}}'"
        )
    return _reader(card).base(card, root)


def label_paths(card: Card, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files behind each entry of `label_files`. Raises DataError naming the first that is missing."""
    base = base_of(card, root)
    found: dict[str, tuple[Path, ...]] = {}
    for entry in card.label_files:
        found[entry] = tuple(sorted(path for path in base.glob(entry) if path.is_file()))
        if not found[entry]:
            raise DataError(
                f"data set '{card.name}' has no {entry} in {base}: is this the folder that holds {', '.join(card.label_files)}?"
            )
    return found


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def label_digests(card: Card, root: Path, digest: Callable[[Path], str] = file_digest) -> dict[str, str]:
    """Return a sha256 for each entry of `label_files`; that of a pattern covers the names and contents that fit it.

    `digest` reads one file; the caller may give one that remembers. Raises DataError when a file is missing.
    """
    found: dict[str, str] = {}
    for entry, paths in label_paths(card, root).items():
        if not any(character in entry for character in "*?["):
            found[entry] = digest(paths[0])
            continue
        lines = "".join(f"{path.name} {digest(path)}\n" for path in paths)
        found[entry] = hashlib.sha256(lines.encode()).hexdigest()
    return found


def made_of(card: Card, root: Path) -> Mapping[str, Any] | None:
    """Return what a folder of made data says of itself (generator, version, parameters), or None when the data is not made."""
    for folder in dict.fromkeys((base_of(card, root), root)):
        file = folder / MADE_FILE
        if file.is_file():
            try:
                return json.loads(file.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, json.JSONDecodeError) as error:
                raise DataError(f"{file}: is not JSON: delete {root} and have the data made again") from error
    return None


def read_index(card: Card, root: Path) -> Rows:
    """Return all rows of a card, sorted by image path, `position` counting from 0. Raises DataError saying what is wrong where."""
    import numpy as np

    base_of(card, root)
    rows: Rows = _reader(card).read(card, root)
    if not len(rows):
        raise DataError(f"data set '{card.name}' at {root} has no row in {', '.join(card.label_files)}: copy them again from the release")
    order = np.argsort(rows.images, kind="stable")
    sorted_rows = rows.take(order)
    twice = np.flatnonzero(sorted_rows.images[1:] == sorted_rows.images[:-1])
    if len(twice):
        raise DataError(f"data set '{card.name}' names {sorted_rows.images[twice[0]]} twice: remove one of the two lines")
    sorted_rows.position[:] = np.arange(len(rows))
    return sorted_rows


def _reader(card: Card) -> ModuleType:
    return importlib.import_module(reader_module(card))
