"""Windows as torchvision's RandomResizedCrop draws them, each a share of the whole image, and the warps that cut, mirror and turn them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

#: Columns of a view's draws, as in `trainers.data.transforms`; those of the ten attempts come after its eight.
_FLIP, _ROTATE, _X, _Y, _FIRST = 0, 1, 4, 5, 8
_ATTEMPTS = 10
#: How many draws a view takes.
COLUMNS = _FIRST + 2 * _ATTEMPTS


class Turned(Protocol):
    """What a warp needs to know of an augmentation."""

    @property
    def scale(self) -> tuple[float, float]: ...
    @property
    def ratio(self) -> tuple[float, float]: ...
    @property
    def rotate(self) -> float: ...
    @property
    def flip(self) -> float: ...


def windows(shapes: np.ndarray, scale: tuple[float, float], ratio: tuple[float, float], draws: np.ndarray) -> np.ndarray:
    """Return the window of each image, whole pixels (n, 4): top, left, height, width.

    `shapes` is (n, 2): height, width; `draws` is (n, COLUMNS) in [0, 1). Area (a share of the image's) is uniform and the aspect ratio
    log-uniform, rounded to pixels, drawn up to ten times until the window fits; else the largest centred one whose ratio is allowed.
    """
    height, width = (shapes[:, axis].astype(np.int64) for axis in (0, 1))
    areas = (scale[0] + (scale[1] - scale[0]) * draws[:, _FIRST::2]) * (height * width)[:, None]
    low, high = np.log(ratio)
    ratios = np.exp(low + (high - low) * draws[:, _FIRST + 1 :: 2])
    # Halves to even, as Python's round.
    wide, tall = np.rint(np.sqrt(areas * ratios)).astype(np.int64), np.rint(np.sqrt(areas / ratios)).astype(np.int64)
    fits = (wide > 0) & (tall > 0) & (wide <= width[:, None]) & (tall <= height[:, None])
    first = fits.argmax(axis=1)
    rows = np.arange(len(shapes))
    tall, wide = tall[rows, first], wide[rows, first]
    top = np.floor(draws[:, _Y] * (height - tall + 1)).astype(np.int64)
    left = np.floor(draws[:, _X] * (width - wide + 1)).astype(np.int64)
    found = np.stack([top, left, tall, wide], axis=1)
    for row in np.flatnonzero(~fits.any(axis=1)).tolist():
        found[row] = _largest(int(height[row]), int(width[row]), ratio)
    return found


def _largest(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return the largest centred window of an image whose ratio is allowed."""
    tall, wide = height, width
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def warp_matrices(shapes: np.ndarray, px: int, how: Turned, draws: np.ndarray) -> np.ndarray:
    """Return for each image the 2x3 matrix from a view's pixel (x, y) to the image's, float64 (n, 2, 3).

    The window is resized to the view (pixel centres on a grid of half pixels, as resizing does), mirrored, then turned about its centre.
    """
    top, left, tall, wide = windows(shapes, how.scale, how.ratio, draws).T.astype(np.float64)
    step_x, step_y, center = wide / px, tall / px, (px - 1) / 2
    angle = np.deg2rad(how.rotate * (2 * draws[:, _ROTATE] - 1))
    cos, sin = np.cos(angle), np.sin(angle)
    sign = np.where(draws[:, _FLIP] < how.flip, -1.0, 1.0)
    # Of the view's centre; mirroring after turning back leaves the centre where it is.
    middle_x, middle_y = left + (wide - 1) / 2, top + (tall - 1) / 2
    matrices = np.empty((len(shapes), 2, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = sign * step_x * cos, -sign * step_x * sin
    matrices[:, 1, 0], matrices[:, 1, 1] = step_y * sin, step_y * cos
    matrices[:, 0, 2] = middle_x - center * (matrices[:, 0, 0] + matrices[:, 0, 1])
    matrices[:, 1, 2] = middle_y - center * (matrices[:, 1, 0] + matrices[:, 1, 1])
    return matrices
