"""COVIDx's layout: `train.txt`, `val.txt`, `test.txt` beside folders of these names.

A line is `patient file class source`. Patients of older lists have a blank in their id (`COVID 12 COVID(12).png positive sirm`), and lines
of the oldest have no source; so lines are read from their end. What a label is called stands in the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.tables import Collected, read_text
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the lists: the root, or a folder right in it."""
    first = card.label_files[0]
    inner = sorted(file.parent for file in root.glob(f"*/{first}") if file.is_file())
    return inner[0] if inner and not (root / first).is_file() else root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := next(iter(set(card.options) - {"negative"}), None):
        return f".{strange}: unknown key; there is negative"
    negative = card.options["negative"]
    return None if isinstance(negative, str) else f".negative: is {negative!r}, and names the class of images without any of the labels"


def read(card: Card, root: Path) -> Rows:
    """Return one row a line. Raises DataError with file and line."""
    folder, found = base(card, root), Collected(card)
    known = {written: [float(written == other) for other in card.labels.values()] for written in card.labels.values()}
    if "negative" in card.options:
        known[card.options["negative"]] = [0.0] * len(card.labels)
    for name in card.label_files:
        split = _split_of(name)
        for number, line in enumerate(read_text(card, folder / name).splitlines(), start=1):
            if line.strip():
                place = f"{folder / name}:{number}"
                patient, image, written, source = _parts(line.split(), known, place)
                found.add(
                    f"{split}/{image}",
                    patient=patient,
                    labels=known[written],
                    place=place,
                    traits={"source": source},
                )
    return found.rows()


def _split_of(name: str) -> str:
    """Return the folder of a list's images: `train_COVIDx9A.txt` and `train.txt` are of `train`."""
    return Path(name).stem.partition("_")[0]


def _parts(words: Sequence[str], known: Sequence[str] | dict[str, list[float]], place: str) -> tuple[str, str, str, str]:
    """Return patient, file, class and source of a line."""
    for source in (1, 0):
        if len(words) >= 3 + source and words[-1 - source] in known:
            end = len(words) - source
            return " ".join(words[: end - 2]), words[end - 2], words[end - 1], words[-1] if source else ""
    raise DataError(
        f"{place}: '{' '.join(words)[:80]}' is not `patient file class source` with a class among {', '.join(known)}: "
        "copy the list again, or name its classes in the card"
    )
