"""A folder a class, as the COVID-19 Radiography Database has them: `Viral Pneumonia/images/Viral Pneumonia-1.png`.

Masks lie beside, `Viral Pneumonia/masks/Viral Pneumonia-1.png`; older versions have the images right in the folder of their class.
Images are named `<class>/<file>` in both. Nothing says which images are of one patient: each is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.mask_files import read_mask
from trainers.data.tables import Collected
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows

_IMAGES, _MASKS = "images", "masks"
#: The structure that the masks are of.
LUNGS = "lungs"


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the folders of the classes: the root, or a folder right in it."""
    first = next(iter(card.labels.values()))
    inner = sorted(folder.parent for folder in root.glob(f"*/{first}") if folder.is_dir())
    return inner[0] if inner and not (root / first).is_dir() else root


def read(card: Card, root: Path) -> Rows:
    """Return one row an image. Raises DataError naming a class that has no image."""
    folder, found = base(card, root), Collected(card)
    for place, written in enumerate(card.labels.values()):
        files = sorted(file for file in _images_of(folder, written).iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg"))
        if not files:
            raise DataError(f"data set '{card.name}' has no image of '{written}' in {folder}: copy it again from the release")
        labels = [float(place == other) for other in range(len(card.labels))]
        for file in files:
            image = f"{written}/{file.name}"
            found.add(image, patient=image, labels=labels, place=str(file))
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image."""
    where = {written: _images_of(base, written) for written in card.labels.values()}
    return [where[folder] / name for folder, _, name in (image.rpartition("/") for image in images)]


def masks(card: Card, base: Path, image: str) -> Mapping[str, np.ndarray]:
    """Return the mask of the lungs, or nothing where there is none. Raises DataError when the file cannot be read."""
    folder, _, name = image.rpartition("/")
    file = base / folder / _MASKS / name
    return {LUNGS: read_mask([file])} if file.is_file() else {}


def _images_of(base: Path, written: str) -> Path:
    folder = base / written
    if not folder.is_dir():
        raise DataError(f"{base} has no folder '{written}': is this the folder that holds a folder for each class?")
    return folder / _IMAGES if (folder / _IMAGES).is_dir() else folder
