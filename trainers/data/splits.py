"""Which split each row belongs to. Two splits of a card never share a patient."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.index import image_column, image_of, list_file
from trainers.data.places import DICOM_FIRST
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows


def split_of(card: Card, rows: Rows, base: Path | None = None) -> np.ndarray:
    """Return the split of each row, (n,) str; "" for rows that are left out. `base` is where lists lie, for a card that has some.

    Raises DataError when a patient crosses splits or an image fits no rule.
    """
    import numpy as np

    patients, patient_of = np.unique(rows.patients, return_inverse=True)
    if card.splits.lists:
        split = _listed(card, rows, Path() if base is None else base)
    else:
        split = _given(card, rows) if card.splits.given else _official(card, rows)
    _refuse_crossing(card, patients, patient_of, split)
    # One row a patient is enough: from here on a patient has one split.
    first = np.zeros(len(patients), dtype=np.int64)
    first[patient_of[::-1]] = np.arange(len(rows))[::-1]
    kept = np.flatnonzero(split != "")
    first[patient_of[kept[::-1]]] = kept[::-1]
    of_patient = _take_by_hash(card, patients, split[first])
    return np.where(split == "", split, of_patient[patient_of])


def hash_share(salt: str, patient: str) -> float:
    """Return a number in [0, 1) that depends on the patient's id and nothing else of the data."""
    digest = hashlib.sha256(f"{salt}|{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _official(card: Card, rows: Rows) -> np.ndarray:
    import numpy as np

    split = np.full(len(rows), "", dtype="<U8")
    # Longer starts are more special, and are laid over the shorter ones.
    for start, name in sorted(card.splits.official.items(), key=lambda item: len(item[0])):
        split[np.char.startswith(rows.images, start)] = name
    lost = np.flatnonzero(split == "")
    if len(lost):
        raise DataError(
            f"card '{card.name}': {rows.images[lost[0]]} is in no split (and {len(lost) - 1} more): "
            f"splits.official knows {', '.join(map(repr, card.splits.official))}"
        )
    return split


def _given(card: Card, rows: Rows) -> np.ndarray:
    import numpy as np

    split = np.full(len(rows), "", dtype="<U8")
    for written, name in card.splits.given.items():
        if rows.given is not None:
            split[rows.given == written] = name
    lost = np.flatnonzero(split == "")
    if len(lost) and card.splits.unlisted == "refuse":
        says = "nothing" if rows.given is None else repr(str(rows.given[lost[0]]))
        raise DataError(
            f"card '{card.name}': {rows.images[lost[0]]} is in no split (and {len(lost) - 1} more): the data says {says}, and "
            f"splits.given knows {', '.join(map(repr, card.splits.given))}; write `unlisted: leave_out` to do without such rows"
        )
    return split


def _listed(card: Card, rows: Rows, base: Path) -> np.ndarray:
    import numpy as np

    place = _places(rows)
    split = np.full(len(rows), "", dtype="<U8")
    for name, entry in card.splits.lists.items():
        file = list_file(card, base, entry)
        for number, image in _names(card, file):
            name_of = next((known for known in (image, _stem(image)) if known in place), image)
            at = place.get(name_of)
            if at is None:
                known = "is named by several images" if name_of in place else f"is no image of '{card.name}'"
                raise DataError(f"{file}:{number}: {image} {known}; write its path as {rows.images[0]} has it")
            if split[at] not in ("", name):
                raise DataError(f"{file}:{number}: {image} is in the list of '{split[at]}' too: a list of splits names an image once")
            split[at] = name
    lost = np.flatnonzero(split == "")
    if len(lost) and card.splits.unlisted == "refuse":
        raise DataError(
            f"card '{card.name}': {rows.images[lost[0]]} is in no list (and {len(lost) - 1} more); "
            "write `unlisted: leave_out` under splits to do without them"
        )
    return split


def _places(rows: Rows) -> dict[str, int | None]:
    """Return where each image is by its name, and by its file name with and without its end; None where that stands for several images.

    A list may be of a conversion of the data set (`<id>.png` for `<id>.dcm`), in a folder of its own where the data set's images have none.
    """
    found: dict[str, int | None] = {}
    for at, image in enumerate(map(str, rows.images)):
        short = image.rpartition("/")[2]
        for name in {short, short.removesuffix(_suffix(short))} - {image}:
            found[name] = None if name in found else at
        if "/" not in image:
            # Nothing is lost when a list names a folder: no two images differ by theirs alone.
            found[f"*/{image.removesuffix(_suffix(image))}"] = at
    return found | {str(image): at for at, image in enumerate(rows.images)}


def _suffix(name: str) -> str:
    """Return how an image file's name ends, such as `.png`; "" where it does not end like one."""
    return next((suffix for suffix in DICOM_FIRST if name.endswith(suffix)), "")


def _stem(image: str) -> str:
    """Return what a list's image is called without the end of its file, and `*` for its folder where it has one."""
    folder, _, short = image.rpartition("/")
    short = short.removesuffix(_suffix(short))
    return f"*/{short}" if folder else short


def _names(card: Card, file: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, image) of a list; what follows the name on its line is not read.

    A list `.csv` that has the columns of the card's label files, such as an exported draw, is read as those are.
    """
    from trainers.data.tables import read_table, read_text

    column = None if card.members else image_column(card)
    if file.suffix == ".csv" and column is not None and column in _header(card, file):
        for line in read_table(card, file, (column,)):
            yield line.number, image_of(card, line)
        return
    for number, line in enumerate(read_text(card, file).splitlines(), start=1):
        if line.strip():
            yield number, re.split(r"[\s,]", line.strip(), maxsplit=1)[0]


def _header(card: Card, file: Path) -> set[str]:
    """Return what could be the columns of a list: the cells of its first line."""
    from trainers.data.tables import read_text

    first = next((line for line in read_text(card, file).splitlines() if line.strip()), "")
    return {cell.strip().strip('"') for cell in first.split(",")}


def _refuse_crossing(card: Card, patients: np.ndarray, patient_of: np.ndarray, split: np.ndarray) -> None:
    import numpy as np

    names, code = np.unique(split, return_inverse=True)
    present = np.zeros((len(patients), len(names)), dtype=bool)
    present[patient_of, code] = True
    # What is left out is in no split.
    present[:, names == ""] = False
    crossing = np.flatnonzero(present.sum(axis=1) > 1)
    if len(crossing):
        shown = ", ".join(f"{patients[index]} ({' and '.join(names[present[index]])})" for index in crossing[:3])
        raise DataError(f"card '{card.name}': {len(crossing)} patients are in more than one split: {shown}")


def _take_by_hash(card: Card, patients: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Move shares of the patients of train to other splits. However few they are, each split gets one patient at least."""
    import numpy as np

    shares = card.splits.patients_by_hash
    pool = np.flatnonzero(split == "train")
    if not shares or not len(pool):
        return split
    if len(pool) <= len(shares):
        raise DataError(f"card '{card.name}' has {len(pool)} training patients: too few for splits {', '.join(shares)} besides train")
    salt = card.splits.salt or card.name
    value = np.array([hash_share(salt, str(patients[index])) for index in pool])
    taken = np.full(len(pool), "train", dtype=split.dtype)
    low = 0.0
    for name, share in sorted(shares.items()):
        taken[(value >= low) & (value < low + share)] = name
        low += share
    for name in ("train", *sorted(shares)):
        if not (taken == name).any():
            largest = max(("train", *sorted(shares)), key=lambda other: (taken == other).sum())
            taken[np.where(taken == largest, value, np.inf).argmin()] = name
    split = split.copy()
    split[pool] = taken
    return split
