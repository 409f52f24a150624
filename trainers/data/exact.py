"""Views as PIL and torchvision draw them, pixel for pixel: for runs that are held against the originals, at the originals' price.

The short side is resized with PIL's antialiased bilinear filter (torchvision's Resize), then an image is flipped, turned to the nearest
pixel with black corners and cropped, one after another, as torchvision's transforms do to PIL images of one channel. What is drawn comes
from the same streams as every other view.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

#: Columns of a view's draws, as in `trainers.data.transforms`.
_FLIP, _ROTATE, _X, _Y = 0, 1, 4, 5


def resized(image: np.ndarray, px: int) -> np.ndarray:
    """Return an image, uint8 (height, width), with short side `px`, as torchvision's Resize does: the long side is cut to a whole pixel."""
    height, width = image.shape
    short = min(height, width)
    if short == px:
        return image
    size = (px, int(px * height / width)) if width <= height else (int(px * width / height), px)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def view(image: np.ndarray, px: int, *, flip: float, rotate: float, draws: np.ndarray) -> np.ndarray:
    """Return one view, uint8 (px, px): flipped with a probability, turned by up to so many degrees, cropped where it fits."""
    picture = Image.fromarray(image)
    if draws[_FLIP] < flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rotate:
        picture = picture.rotate(rotate * (2 * draws[_ROTATE] - 1), Image.Resampling.NEAREST, fillcolor=0)
    width, height = picture.size
    left, top = int(draws[_X] * (width - px + 1)), int(draws[_Y] * (height - px + 1))
    return np.asarray(picture.crop((left, top, left + px, top + px)))


def centre(image: np.ndarray, px: int) -> np.ndarray:
    """Return the centre square, uint8 (px, px), as torchvision's CenterCrop cuts it."""
    top, left = round((image.shape[0] - px) / 2.0), round((image.shape[1] - px) / 2.0)
    return image[top : top + px, left : left + px]


def resized_crop(image: np.ndarray, px: int, window: np.ndarray, *, flip: float, rotate: float, draws: np.ndarray) -> np.ndarray:
    """Return one view, uint8 (px, px): a window (top, left, height, width) resized, flipped with a probability, turned by up to so much."""
    top, left, height, width = (int(value) for value in window)
    picture = Image.fromarray(image).crop((left, top, left + width, top + height)).resize((px, px), Image.Resampling.BILINEAR)
    if draws[_FLIP] < flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rotate:
        picture = picture.rotate(rotate * (2 * draws[_ROTATE] - 1), Image.Resampling.NEAREST, fillcolor=0)
    return np.asarray(picture)
