"""Kermany's chest X-rays as files whose names say everything: `NORMAL2-IM-1427-0001.jpg`, `person1946_bacteria_4874.jpg`.

Normal patients are `IM-N`, those with pneumonia `personN`; every image is its own study. The release has them in
`{train,test}/{NORMAL,PNEUMONIA}/`, and the same `personN` is in both: a card either takes that for one patient and splits by hash, or
says with `patients: per_folder` that a number counts anew in each folder, which the release does not say.
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

_NORMAL = re.compile(r"(?:NORMAL2-)?(IM-\d+)(?:-\d+)*")
_PNEUMONIA = re.compile(r"(person\d+)_(bacteria|virus)_\d+")
_FOLDERS = ("chest_xray", "chest_xray/chest_xray", "ZhangLabData/CellData/chest_xray", "CellData/chest_xray")
_PATIENTS = ("one", "per_folder")


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the images or their folders: the root, or the release's folder in it."""
    pattern = (*card.names_of, *card.label_files)[0]
    for folder in (root, *(root / name for name in _FOLDERS)):
        if next(folder.glob(pattern), None) is not None:
            return folder
    return root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := next(iter(set(card.options) - {"patients"}), None):
        return f".{strange}: unknown key; there is patients"
    chosen = card.options["patients"]
    return None if chosen in _PATIENTS else f".patients: is '{chosen}', and may be {' or '.join(_PATIENTS)}"


def read(card: Card, root: Path) -> Rows:
    """Return one row an image. Raises DataError on a name that says neither normal nor pneumonia."""
    folder, found = base(card, root), Collected(card)
    apart = card.options.get("patients") == "per_folder"
    for image in sorted({path.relative_to(folder).as_posix() for pattern in _patterns(card) for path in folder.glob(pattern)}):
        stem = Path(image).stem
        normal, pneumonia = _NORMAL.fullmatch(stem), _PNEUMONIA.fullmatch(stem)
        name = normal or pneumonia
        if name is None:
            raise DataError(f"{folder / image}: the name says neither normal (IM-0001-0001) nor pneumonia (person1_bacteria_1)")
        kind = "normal" if normal else name[2]
        one_of_several = [float(written == kind) for written in card.labels.values()]
        labels = one_of_several if card.task == "multiclass" else [0.0 if normal else 1.0]
        patient = f"{image.partition('/')[0]}/{name[1]}" if apart else name[1]
        found.add(image, patient=patient, study=stem, labels=labels, place=str(folder / image))
    return found.rows()


def _patterns(card: Card) -> tuple[str, ...]:
    return (*card.label_files, *card.names_of)
