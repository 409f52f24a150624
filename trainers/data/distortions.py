"""Distortions that bend an image and its masks alike: elastic, by a grid, and of a lens.

Each gives where a view's pixels come from in the image, as two maps (px, px) float32 for OpenCV's remap. Definitions are those of
albumentations 1.3.1 (`ElasticTransform` after Simard et al. 2003, `GridDistortion`, `OpticalDistortion`); what is there off by a fraction
of a pixel, so that a distortion of no strength would still move, is not so here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from scipy import ndimage

from trainers.data.streams import key

Maps: TypeAlias = tuple[np.ndarray, np.ndarray]

#: Side at which the strengths of the elastic distortion are stated.
_STATED_PX = 224
_CELLS = 5
_KINDS = 3
_KIND, _FIELD, _LENS, _FIRST = range(4)
#: Numbers that a distortion takes: which one, and of the elastic one 6 of an affine map, of the grid one 6 a side.
DRAWS = _FIRST + 2 * (_CELLS + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strengths:
    """How far each distortion goes; where all are 0, nothing moves."""

    #: Elastic: what smoothed noise in [-1, 1] is multiplied by, its smoothing (sd), and how far three points are moved before it, all for
    #: a side of 224 pixels.
    alpha: float
    sigma: float
    affine: float
    #: Grid: each of five cells a side is that share longer or shorter, at most.
    grid: float
    #: Lens: the radial coefficients k1 = k2, in plus and minus.
    lens: float


def maps(row: np.ndarray, px: int, strengths: Strengths) -> Maps:
    """Return the maps of one of the three, each as likely as the others, from `DRAWS` numbers in [0, 1)."""
    kind = int(row[_KIND] * _KINDS)
    if kind == 0:
        return elastic(row, px, strengths)
    return grid(row, px, strengths.grid) if kind == 1 else lens(strengths.lens * (2 * row[_LENS] - 1), px)


def elastic(row: np.ndarray, px: int, strengths: Strengths) -> Maps:
    """Return the maps of a random affine map followed by smoothed random displacements (Simard et al. 2003).

    At another side than 224 the field has the same shape: its smoothing and its displacements grow with the side.
    """
    factor = px / _STATED_PX
    middle, reach = px // 2, px // 3
    fixed = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]], np.float32)
    moved = fixed + strengths.affine * factor * (2 * row[_FIRST : _FIRST + 6].reshape(3, 2) - 1)
    inverse = cv2.invertAffineTransform(cv2.getAffineTransform(fixed, moved.astype(np.float32)))
    noise = np.random.Generator(np.random.Philox(key=key(int(row[_FIELD] * 2**53)))).random((2, px, px), np.float32) * 2 - 1
    smooth = [ndimage.gaussian_filter(one, strengths.sigma * factor) * (strengths.alpha * factor**2) for one in noise]
    x, y = _places(px)
    x, y = x + smooth[0], y + smooth[1]
    return (
        (inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]).astype(np.float32),
        (inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]).astype(np.float32),
    )


def grid(row: np.ndarray, px: int, limit: float) -> Maps:
    """Return the maps of a grid of five cells a side, each stretched by a factor of its own; a rest at the end comes back to the border."""
    steps = 1 + limit * (2 * row[_FIRST:DRAWS].reshape(2, _CELLS + 1) - 1)
    columns, rows = (_stretched(px, one) for one in steps)
    x, y = np.meshgrid(columns, rows)
    return x, y


def _stretched(px: int, steps: np.ndarray) -> np.ndarray:
    side = max(px // _CELLS, 1)
    found, before = np.empty(px, np.float32), 0.0
    for index, step in enumerate(steps):
        start, end = min(index * side, px), min((index + 1) * side, px)
        after = before + side * step if (index + 1) * side <= px else float(px)
        found[start:end] = np.linspace(before, after, end - start, endpoint=False)
        before = after
    return found


def lens(k: float, px: int) -> Maps:
    """Return the maps of a lens whose radial coefficients are both k: places move by 1 + k r^2 + k r^4 about the centre, r in sides."""
    x, y = _places(px)
    across, down = (x - px / 2) / px, (y - px / 2) / px
    square = across**2 + down**2
    factor = 1 + k * square + k * square**2
    return (px * across * factor + px / 2).astype(np.float32), (px * down * factor + px / 2).astype(np.float32)


def _places(px: int) -> Maps:
    x, y = np.meshgrid(np.arange(px, dtype=np.float64), np.arange(px, dtype=np.float64))
    return x, y
