"""A folder of images without labels, to pretrain on: any folders, any names.

Which files are images stands in the card as `names_of`. An image is its own patient, unless `patient` is a regular expression that finds
the patient in its path: its first group, or all that it matches.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.tables import Collected
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows


def base(card: Card, root: Path) -> Path:
    """Return the root."""
    return root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := next(iter(set(card.options) - {"patient"}), None):
        return f".{strange}: unknown key; there is patient"
    try:
        pattern = re.compile(card.options["patient"])
    except (re.error, TypeError) as error:
        return f".patient: {card.options['patient']!r} is no regular expression ({error})"
    return ".patient: has more than one group; the patient is one" if pattern.groups > 1 else None


def read(card: Card, root: Path) -> Rows:
    """Return one row an image. Raises DataError on a path in which `patient` finds nothing."""
    if card.task != "unlabelled":
        raise DataError(f"card '{card.name}': the reader 'folder' knows of no labels: say `task: unlabelled`, or use the reader 'csv'")
    found, pattern = Collected(card), re.compile(card.options.get("patient", ""))
    for file in sorted({path for pattern in card.names_of for path in root.glob(pattern) if path.is_file()}):
        image = file.relative_to(root).as_posix()
        found.add(image, patient=_patient(card, pattern, image) if pattern.pattern else image, labels=[], place=str(file))
    return found.rows()


def _patient(card: Card, pattern: re.Pattern[str], image: str) -> str:
    match = pattern.search(image)
    name = match[pattern.groups] if match else None
    if not name:
        raise DataError(
            f"card '{card.name}': options.patient '{pattern.pattern}' finds no patient in {image}: correct it, or narrow names_of"
        )
    return name
