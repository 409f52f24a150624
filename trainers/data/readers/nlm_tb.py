"""The tuberculosis sets of the National Library of Medicine, Shenzhen and Montgomery.

CXR_png/CHNCXR_0001_0.png, CXR_png/MCUCXR_0001_0.png      the last digit is 1 for tuberculosis
ClinicalReadings/CHNCXR_0001_0.txt                        sex, age, and a reading; need not be there
mask/CHNCXR_0001_0_mask.png                               lungs of 566 Shenzhen images (Stirenko et al.); need not be there
ManualMask/{leftMask,rightMask}/MCUCXR_0001_0.png         lungs of Montgomery
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.mask_files import read_mask
from trainers.data.readings import tuberculosis, who
from trainers.data.tables import Collected
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows

#: The structure that both sets have masks of.
LUNGS = "lungs"
_IMAGES, _READINGS = "CXR_png", "ClinicalReadings"
_FOLDERS = ("ChinaSet_AllFiles", "ChinaSet_AllFiles/ChinaSet_AllFiles", "MontgomerySet", "NLM-MontgomeryCXRSet/MontgomerySet")
_NAME = re.compile(r"[A-Z]+_\d+_([01])\.png")
_SOURCES = ("name", "readings")


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds `CXR_png`: the root, or the release's folder in it."""
    for folder in (root, *(root / name for name in _FOLDERS)):
        if next(folder.glob(card.names_of[0]), None) is not None:
            return folder
    return root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := next(iter(set(card.options) - {"labels_from"}), None):
        return f".{strange}: unknown key; there is labels_from"
    source = card.options["labels_from"]
    if source not in _SOURCES:
        return f".labels_from: is '{source}', and may be {' or '.join(_SOURCES)}"
    if source == "readings" and f"{_READINGS}/*.txt" not in card.label_files:
        return f".labels_from: readings determine labels, so label_files has to name {_READINGS}/*.txt"
    return None


def read(card: Card, root: Path) -> Rows:
    """Return one row an image; of a card of structures, one an image with a mask. Raises DataError on a name that says no label."""
    folder, found = base(card, root), Collected(card)
    for file in sorted(path for pattern in card.names_of for path in folder.glob(pattern) if path.parent.name == _IMAGES):
        name = _NAME.fullmatch(file.name)
        if name is None:
            raise DataError(f"{file}: the name does not end in _0 (normal) or _1 (tuberculosis), such as CHNCXR_0001_0.png")
        if card.task == "segmentation" and not _mask_files(folder, file.name):
            continue
        reading = folder / _READINGS / f"{file.stem}.txt"
        from_reading = card.options.get("labels_from") == "readings" and card.task != "segmentation"
        label = 1.0 if card.task == "segmentation" else tuberculosis(reading) if from_reading else float(name[1])
        found.add(
            file.name,
            patient=file.stem.rpartition("_")[0],
            labels=[label] * len(card.labels),
            place=str(file),
            traits=who(reading) if card.traits else None,
        )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image."""
    return [base / _IMAGES / image for image in images]


def masks(card: Card, base: Path, image: str) -> Mapping[str, np.ndarray]:
    """Return the mask of the lungs, or nothing where there is none. Raises DataError when a file cannot be read."""
    return {slug: read_mask(files) for slug, files in mask_files(card, base, image).items()}


def mask_files(card: Card, base: Path, image: str) -> Mapping[str, list[Path]]:
    """Return the files that the lungs are drawn in, or nothing where there are none. Raises DataError when half of them is missing."""
    found = _mask_files(base, image)
    return {LUNGS: found} if found else {}


def _mask_files(base: Path, image: str) -> list[Path]:
    halves = [base / "ManualMask" / side / image for side in ("leftMask", "rightMask")]
    there = [file for file in halves if file.is_file()]
    if len(there) == 1:
        missing = next(file for file in halves if file not in there)
        raise DataError(f"mask {missing} is missing, and that of the other lung is there: copy it again from the release")
    whole = base / "mask" / f"{Path(image).stem}_mask.png"
    return there or ([whole] if whole.is_file() else [])
