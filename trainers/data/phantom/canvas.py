"""Drawing shapes of the body on a grid of pixels of any size, at sub-pixel accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: A plane of single-precision numbers (px, px).
Field = NDArray[np.floating[Any]]
Points = NDArray[np.float64]

#: OpenCV takes coordinates in sixteenths of a pixel.
_SHIFT = 4
_ONE = np.float32(1 / 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """How the body lies in the picture: turned by `angle` (radians), scaled, then moved, in units of half the picture's side."""

    angle: float
    scale: float
    x: float
    y: float

    def matrix(self) -> NDArray[np.float64]:
        """Return the 2 x 3 matrix from body to picture, both in [-1, 1] with y downwards."""
        cos, sin = self.scale * np.cos(self.angle), self.scale * np.sin(self.angle)
        return np.array([[cos, -sin, self.x], [sin, cos, self.y]])


class Canvas:
    """A square grid of `px` pixels that shapes in body coordinates are drawn on; one unit is half the side at scale 1."""

    def __init__(self, px: int, pose: Pose) -> None:
        self.px = px
        self.scale = pose.scale
        self._matrix = pose.matrix()
        half = px / 2 * (1 << _SHIFT)
        self._linear = self._matrix[:, :2].T * half
        self._offset = (self._matrix[:, 2] + 1) * half - 0.5 * (1 << _SHIFT) + 0.5
        self._linear_twice = 2 * self._linear
        self._offset_twice = 2 * (self._matrix[:, 2] + 1) * half - 0.5 * (1 << _SHIFT) + 0.5

    def grid(self) -> tuple[Field, Field]:
        """Return the body coordinates x and y of every pixel's centre, each (px, px)."""
        side = (np.arange(self.px, dtype=np.float32) + 0.5) * (2 / self.px) - 1
        inverse = np.linalg.inv(self._matrix[:, :2]).astype(np.float32)
        u, v = side[None, :] - np.float32(self._matrix[0, 2]), side[:, None] - np.float32(self._matrix[1, 2])
        return inverse[0, 0] * u + inverse[0, 1] * v, inverse[1, 0] * u + inverse[1, 1] * v

    def fill(self, *polygons: Points) -> Field:
        """Return the share of each pixel that lies in one of the polygons, each (n, 2) or (k, n, 2)."""
        sheet = np.zeros((2 * self.px, 2 * self.px), np.uint8)
        for polygon in polygons:
            fixed = self._fixed_twice(polygon)
            for each in fixed if fixed.ndim == 3 else (fixed,):
                cv2.fillPoly(sheet, [each], 255, cv2.LINE_8, _SHIFT)
        return self._halved(sheet)

    def fill_apart(self, *stacks: Points) -> Field:
        """Return the share of each pixel in polygons (k, n, 2) that hardly overlap, in one call a stack; overlaps are left out."""
        sheet = np.zeros((2 * self.px, 2 * self.px), np.uint8)
        cv2.fillPoly(sheet, [each for stack in stacks for each in self._fixed_twice(stack)], 255, cv2.LINE_8, _SHIFT)
        return self._halved(sheet)

    def stroke(self, lines: Points | Sequence[Points], width: float, *, closed: bool = False) -> Field:
        """Return lines of one width (in units); thinner than a pixel they fade instead of vanishing."""
        wide = width * self.scale * self.px / 2
        drawn = max(1, round(wide))
        sheet = np.zeros((self.px, self.px), np.uint8)
        fixed = list(self._fixed(lines)) if isinstance(lines, np.ndarray) else [self._fixed(line) for line in lines]
        cv2.polylines(sheet, fixed, closed, 255, drawn, cv2.LINE_AA, _SHIFT)
        return sheet * np.float32(min(1.0, wide / drawn) / 255)

    def soften(self, field: Field, width: float) -> Field:
        """Return a field blurred by a Gaussian of standard deviation `width` units; wide blurs are made on a coarser grid."""
        sigma = width * self.scale * self.px / 2
        if sigma < 0.25:
            return field
        step = int(sigma / 1.5)
        if step < 2:
            return cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE).astype(np.float32, copy=False)
        small = max(8, self.px // step)
        coarse = cv2.resize(field, (small, small), interpolation=cv2.INTER_AREA)
        coarse = cv2.GaussianBlur(coarse, (0, 0), sigma * small / self.px, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(coarse, (self.px, self.px), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)

    def cloud(self, rng: np.random.Generator, cells: int) -> Field:
        """Return a smooth random field with `cells` features along a side, fixed to the picture."""
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        how = cv2.INTER_CUBIC if cells < self.px else cv2.INTER_AREA
        return cv2.resize(coarse, (self.px, self.px), interpolation=how).astype(np.float32, copy=False)

    # OpenCV's own smooth filling spreads a shape by more than half a pixel; filling twice as large and halving does not.
    def _fixed_twice(self, points: Points) -> NDArray[np.int32]:
        return np.floor(points @ self._linear_twice + self._offset_twice).astype(np.int32)

    def _halved(self, sheet: NDArray[np.uint8]) -> Field:
        return cv2.resize(sheet, (self.px, self.px), interpolation=cv2.INTER_AREA) * _ONE

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        return np.floor(points @ self._linear + self._offset).astype(np.int32)


def tube(centre: Points, width: float | NDArray[np.float64]) -> Points:
    """Return the outlines (..., 2n, 2) of tubes along lines (..., n, 2), `width` being one number or one a point."""
    along = np.empty_like(centre)
    along[..., 1:-1, :] = centre[..., 2:, :] - centre[..., :-2, :]
    along[..., 0, :] = centre[..., 1, :] - centre[..., 0, :]
    along[..., -1, :] = centre[..., -1, :] - centre[..., -2, :]
    along *= (np.asarray(width) / 2 / np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9))[..., None]
    half = along[..., ::-1] * np.array([-1.0, 1.0])
    return np.concatenate([centre + half, (centre - half)[..., ::-1, :]], axis=-2)


def line(x: NDArray[np.float64], y: NDArray[np.float64] | float) -> Points:
    """Return points (..., 2) of coordinates that broadcast to the shape of x."""
    points = np.empty((*x.shape, 2))
    points[..., 0] = x
    points[..., 1] = y
    return points


_ROUND = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_COS, _SIN = np.cos(_ROUND), np.sin(_ROUND)


def ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0) -> Points:
    """Return an ellipse as a polygon: centre, half axes and rotation in radians."""
    u, v = a * _COS, b * _SIN
    cos, sin = np.cos(turn), np.sin(turn)
    return line(x + u * cos - v * sin, y + u * sin + v * cos)


def smooth(knots: Sequence[tuple[float, float]] | Points, points: int = 64) -> Points:
    """Return a smooth closed curve through knots (a Catmull-Rom spline)."""
    given = np.asarray(knots, dtype=np.float64)
    around = np.concatenate([given[-1:], given, given[:2]])[:, None, :]
    before, start, end, after = around[:-3], around[1:-2], around[2:-1], around[3:]
    t = (np.arange(count := max(2, points // len(given))) / count)[None, :, None]
    curve = start + 0.5 * t * (end - before + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before)))
    return curve.reshape(-1, 2)
