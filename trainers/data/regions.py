"""Where findings and structures are in an image: boxes and masks, for cards whose reader knows of some.

A reader that has boxes defines `boxes(card, root) -> Boxes`, one that has masks `masks(card, base, image)`, which returns a mask for each
structure that is annotated in an image, uint8 (height, width), 1 inside, as fine as it is on disk. Where a structure is drawn in several
files, such as a left and a right half, the reader may also define `mask_files(card, base, image)`, those of each.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from trainers.data.card_checks import reader_module
from trainers.data.cards import Card
from trainers.data.located import Located
from trainers.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Boxes of findings, as parallel arrays; an image has any number of them."""

    images: np.ndarray  # (n,) str, as in the card's index
    labels: np.ndarray  # (n,) str, slugs of the card
    #: Left, top, right, bottom in pixels of the file, right and bottom just outside.
    corners: np.ndarray  # (n, 4) float64

    def __len__(self) -> int:
        return len(self.images)

    def of_images(self, images: np.ndarray) -> Boxes:
        """Return the boxes in these images, in the order of the file."""
        import numpy as np

        here = np.isin(self.images, images)
        return Boxes(images=self.images[here], labels=self.labels[here], corners=self.corners[here])


def boxes_from(images: Sequence[str], labels: Sequence[str], corners: Sequence[Sequence[float]]) -> Boxes:
    """Return boxes of parallel lists: image, slug, and left, top, right and bottom."""
    import numpy as np

    return Boxes(
        images=np.array(images, dtype=str),
        labels=np.array(labels, dtype=str),
        corners=np.array(corners, np.float64).reshape(len(images), 4),
    )


def boxes_of(place: Located) -> Boxes:
    """Return the boxes of a card. Raises DataError when its data has none, or a box is empty or of no image or label of the card."""
    import numpy as np

    read = getattr(_reader(place.card), "boxes", None)
    if read is None or place.root is None:
        raise DataError(f"data set '{place.card.name}' has no boxes: the reader '{place.card.reader}' knows of none")
    found: Boxes = read(place.card, place.root)
    known = set(place.index().images.tolist())
    for image, label, corners in zip(found.images.tolist(), found.labels.tolist(), found.corners, strict=True):
        left, top, right, bottom = corners
        if image not in known or label not in place.card.labels:
            raise DataError(f"data set '{place.card.name}': a box of '{label}' is in {image}, and the card knows no such label or image")
        if not (np.isfinite(corners).all() and right > left and bottom > top):
            raise DataError(f"data set '{place.card.name}': the box of '{label}' in {image} is empty ({left}, {top}, {right}, {bottom})")
    return found


def has_boxes(place: Located) -> bool:
    """Tell whether a card's reader knows of boxes; whether they are on disk is found out by reading them."""
    return place.root is not None and hasattr(_reader(place.card), "boxes")


def masks_of(place: Located, image: str, shape: tuple[int, int] | None = None) -> Mapping[str, np.ndarray]:
    """Return a mask for each annotated structure of an image, uint8 (height, width) with 1 inside; `shape` resizes by nearest pixel.

    Raises DataError when the card's data has no masks, or a file cannot be read.
    """
    read = getattr(_reader(place.card), "masks", None)
    if read is None or place.root is None:
        raise DataError(f"data set '{place.card.name}' has no masks: the reader '{place.card.reader}' knows of none")
    found: Mapping[str, np.ndarray] = read(place.card, place.base, image)
    if shape is None:
        return found
    import cv2

    height, width = shape
    return {name: cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for name, mask in found.items()}


def parts_of(place: Located, image: str) -> Mapping[str, list[np.ndarray]]:
    """Return each annotated structure of an image as the parts that it is drawn in, uint8 (height, width), 255 inside.

    Raises DataError as `masks_of` does.
    """
    from trainers.data.mask_files import read_mask

    files = getattr(_reader(place.card), "mask_files", None)
    if files is None or place.root is None:
        return {name: [mask * 255] for name, mask in masks_of(place, image).items()}
    found: Mapping[str, Sequence[Path]] = files(place.card, place.base, image)
    return {name: [read_mask([file]) * 255 for file in parts] for name, parts in found.items()}


def _reader(card: Card) -> ModuleType:
    return importlib.import_module(reader_module(card)) if card.reader else importlib.import_module("trainers.data.located")
