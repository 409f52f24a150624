"""Which views of an image a model predicts: its centre, or the ten crops of BenchmarkTransformers, of images as they are or squashed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from trainers.data import exact
from trainers.data.access import ImageStore
from trainers.data.transforms import plain
from trainers.data.workers import spread

_TEN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is cut out of each image."""

    px: int
    #: Brought to a square first, whatever its shape: torchvision's `Resize((side, side))`.
    squashed: bool = False
    #: Corners and centre, and the same of the mirrored image: torchvision's `TenCrop`.
    ten: bool = False
    #: Resized as PIL does, of a store that was.
    exact: bool = False

    @property
    def views(self) -> int:
        """Return how many views an image has."""
        return _TEN if self.ten else 1


def cut(store: ImageStore, positions: np.ndarray, how: Cut) -> np.ndarray:
    """Return the views of some images, uint8 (views, n, 1, px, px), the views in torchvision's order."""
    wanted = np.asarray(positions)
    if not how.ten and not how.squashed and (how.exact or store.px == how.px):
        return plain(store, wanted, how.px, as_published=how.exact)[None]
    found = np.empty((how.views, len(wanted), 1, how.px, how.px), np.uint8)

    def draw(part: slice) -> None:
        for index, position in enumerate(wanted[part].tolist(), start=part.start or 0):
            image = store.image(position)
            for view, out in zip(_views(_square(image, store.px, how) if how.squashed else image, how), found[:, index, 0], strict=True):
                out[:] = view

    spread(draw, len(wanted))
    return found


def _square(image: np.ndarray, side: int, how: Cut) -> np.ndarray:
    if image.shape == (side, side):
        return image
    if how.exact:
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _views(image: np.ndarray, how: Cut) -> list[np.ndarray]:
    """Return the centre, or top left, top right, bottom left, bottom right and centre, then those of the mirrored image."""
    if not how.ten:
        return [exact.centre(image, how.px)]
    return [view for side in (image, image[:, ::-1]) for view in _five(side, how.px)]


def _five(image: np.ndarray, px: int) -> list[np.ndarray]:
    corners = [image[:px, :px], image[:px, -px:], image[-px:, :px], image[-px:, -px:]]
    return [*corners, exact.centre(image, px)]
