"""A card's data on disk: where it lies, which files determine its labels, and its rows."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trainers.data.card_checks import reader_module
from trainers.data.cards import Card
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows
    from trainers.data.tables import Line

#: Lies beside the label files of made data: generator, version, parameters.
MADE_FILE = "MADE.json"


def base_of(card: Card, root: Path) -> Path:
    """Return the folder that a card's label files and image paths start from. Raises DataError when it is not there."""
    if not root.is_dir():
        raise DataError(
            f"data set '{card.name}' is not at {root} (no such folder): "
            f"put its place into your cluster config, such as 'data: {{{card.place}: /path/to/{card.place}}}'"
        )
    return reader_of(card).base(card, root)


def label_paths(card: Card, root: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files behind each entry of `label_files` and each list of a split. Raises DataError naming the first that is missing."""
    base = base_of(card, root)
    found: dict[str, tuple[Path, ...]] = {entry: (list_file(card, base, entry),) for entry in card.splits.lists.values()}
    for entry in card.label_files:
        found[entry] = tuple(sorted(path for path in base.glob(entry) if path.is_file()))
        if not found[entry]:
            raise DataError(
                f"data set '{card.name}' has no {entry} in {base}: is this the folder that holds {', '.join(card.label_files)}?"
            )
    return found


def list_file(card: Card, base: Path, name: str) -> Path:
    """Return a list of a split's images: in the data set's folder, else beside the card. Raises DataError when it is in neither."""
    for folder in (base, Path(card.folder)) if card.folder else (base,):
        if (folder / name).is_file():
            return folder / name
    beside = f" nor beside its card in {card.folder}" if card.folder else ""
    raise DataError(f"data set '{card.name}' has no list {name} in {base}{beside}: put it there, or correct splits.lists in its card")


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def label_digests(card: Card, root: Path, digest: Callable[[Path], str] = file_digest) -> dict[str, str]:
    """Return a sha256 for each label file, list and pattern; that of a pattern covers the names and contents that fit it.

    A pattern of `names_of` covers names alone. `digest` reads one file; the caller may give one that remembers. Raises DataError when a
    file is missing, or is not the one that the card names by its sha256.
    """
    found: dict[str, str] = {}
    for entry, paths in label_paths(card, root).items():
        if not any(character in entry for character in "*?["):
            found[entry] = digest(paths[0])
            _refuse_other_file(card, entry, paths[0], found[entry])
            continue
        lines = "".join(f"{path.name} {digest(path)}\n" for path in paths)
        found[entry] = hashlib.sha256(lines.encode()).hexdigest()
    base = base_of(card, root)
    for pattern in card.names_of:
        names = sorted(path.relative_to(base).as_posix() for path in base.glob(pattern))
        if not names:
            raise DataError(f"data set '{card.name}' has no {pattern} in {base}: is this the folder that holds its images?")
        found[f"names of {pattern}"] = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return found


def _refuse_other_file(card: Card, entry: str, path: Path, digest: str) -> None:
    wanted = card.sha256.get(entry)
    if wanted not in (None, digest):
        raise DataError(
            f"{path} is not the file that card '{card.name}' names (its sha256 starts with {digest[:12]}, the card's with {wanted[:12]}): "
            "copy that file there, or write a card of your own with the new sha256"
        )


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
    rows: Rows = reader_of(card).read(card, root)
    if not len(rows):
        where = ", ".join((*card.label_files, *card.names_of))
        raise DataError(f"data set '{card.name}' at {root} has no row in {where}: copy them again from the release")
    order = np.argsort(rows.images, kind="stable")
    sorted_rows = rows.take(order)
    twice = np.flatnonzero(sorted_rows.images[1:] == sorted_rows.images[:-1])
    if len(twice):
        raise DataError(f"data set '{card.name}' names {sorted_rows.images[twice[0]]} twice: remove one of the two lines")
    sorted_rows.position[:] = np.arange(len(rows))
    if card.task == "multiclass":
        _refuse_other_classes(card, sorted_rows)
    return sorted_rows


def image_column(card: Card) -> str | None:
    """Return the column of label files that names images; None where a row of them is no image."""
    return getattr(reader_of(card), "IMAGE_COLUMN", None)


def image_of(card: Card, line: Line) -> str:
    """Return what a line of a label file, or of a list in its columns, calls its image. Raises DataError when it names none."""
    read = getattr(reader_of(card), "image_of", None)
    return line.text(str(image_column(card))) if read is None else read(line)


def image_files(card: Card, root: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image of an index. Whether it is there is not looked at here."""
    base = base_of(card, root)
    find = getattr(reader_of(card), "files", None)
    # A reader has one where images are named otherwise than by their path below the data set's folder.
    return [base / image for image in images] if find is None else find(card, base, images)


def image_bits(card: Card, root: Path, images: Sequence[str]) -> list[int] | None:
    """Return how many bits the numbers of each 16-bit image have where a card or its data says so; None where all have 16."""
    find = getattr(reader_of(card), "bits", None)
    return None if find is None else list(find(card, base_of(card, root), images))


def _refuse_other_classes(card: Card, rows: Rows) -> None:
    import numpy as np

    counts = (rows.labels == 1).sum(axis=1)
    bad = np.flatnonzero((counts != 1) & ~np.isnan(rows.labels).all(axis=1))
    if len(bad):
        raise DataError(f"card '{card.name}': {rows.images[bad[0]]} is of {counts[bad[0]]} classes, and has to be of one")


def reader_of(card: Card) -> ModuleType:
    """Import the reader of a card."""
    return importlib.import_module(reader_module(card))
