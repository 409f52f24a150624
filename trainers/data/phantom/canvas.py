"""Drawing shapes of the body on a grid of pixels of any size, at sub-pixel accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Points = NDArray[np.float64]

#: OpenCV takes coordinates in sixteenths of a pixel.
_SHIFT = 4


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

    def pixels(self, points: Points) -> Points:
        """Return pixel coordinates (n, 2) of body coordinates (n, 2); the centre of the first pixel is (0, 0)."""
        moved = points @ self._matrix[:, :2].T + self._matrix[:, 2]
        return (moved + 1) * (self.px / 2) - 0.5

    def grid(self) -> tuple[Field, Field]:
        """Return the body coordinates x and y of every pixel's centre, each (px, px)."""
        side = (np.arange(self.px, dtype=np.float32) + 0.5) * (2 / self.px) - 1
        inverse = np.linalg.inv(self._matrix[:, :2])
        u, v = side[None, :] - self._matrix[0, 2], side[:, None] - self._matrix[1, 2]
        x = inverse[0, 0] * u + inverse[0, 1] * v
        y = inverse[1, 0] * u + inverse[1, 1] * v
        return x.astype(np.float32), y.astype(np.float32)

    def fill(self, *polygons: Points) -> Field:
        """Return the share of each pixel that lies in one of the polygons, each (n, 2) and filled by itself."""
        sheet = np.zeros((self.px, self.px), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(sheet, [self._fixed(polygon)], 255, cv2.LINE_AA, _SHIFT)
        return sheet.astype(np.float32) * np.float32(1 / 255)

    def fill_apart(self, polygons: Sequence[Points]) -> Field:
        """Return the share of each pixel in polygons that do not overlap, in one call."""
        sheet = np.zeros((self.px, self.px), np.uint8)
        cv2.fillPoly(sheet, [self._fixed(polygon) for polygon in polygons], 255, cv2.LINE_AA, _SHIFT)
        return sheet.astype(np.float32) * np.float32(1 / 255)

    def stroke(self, lines: Sequence[Points], width: float) -> Field:
        """Return lines of one width (in units); thinner than a pixel they fade instead of vanishing."""
        wide = width * self.scale * self.px / 2
        drawn = max(1, round(wide))
        sheet = np.zeros((self.px, self.px), np.uint8)
        ink = round(255 * min(1.0, wide / drawn))
        cv2.polylines(sheet, [self._fixed(line) for line in lines], False, ink, drawn, cv2.LINE_AA, _SHIFT)
        return sheet.astype(np.float32) * np.float32(1 / 255)

    def soften(self, field: Field, width: float) -> Field:
        """Return a field blurred by a Gaussian of standard deviation `width` units; wide blurs are made on a coarser grid."""
        sigma = width * self.scale * self.px / 2
        step = int(sigma / 1.5)
        if step < 2:
            return cv2.GaussianBlur(field, (0, 0), max(sigma, 0.1), borderType=cv2.BORDER_REPLICATE).astype(np.float32, copy=False)
        small = max(8, self.px // step)
        coarse = cv2.resize(field, (small, small), interpolation=cv2.INTER_AREA)
        coarse = cv2.GaussianBlur(coarse, (0, 0), sigma * small / self.px, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(coarse, (self.px, self.px), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)

    def cloud(self, rng: np.random.Generator, cells: int) -> Field:
        """Return a smooth random field of about unit variance with `cells` features along a side, fixed to the picture."""
        coarse = rng.standard_normal((cells, cells), dtype=np.float32)
        return cv2.resize(coarse, (self.px, self.px), interpolation=cv2.INTER_CUBIC).astype(np.float32, copy=False)

    def _fixed(self, points: Points) -> NDArray[np.int32]:
        return np.round(self.pixels(points) * (1 << _SHIFT)).astype(np.int32)


def tube(centre: Points, width: float | NDArray[np.float64]) -> Points:
    """Return the outline of a tube along a line (n, 2) as a polygon (2n, 2)."""
    along = np.gradient(centre, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.maximum(np.hypot(normal[:, 0], normal[:, 1]), 1e-9)[:, None]
    half = normal * (np.broadcast_to(width, len(centre))[:, None] / 2)
    return np.concatenate([centre + half, (centre - half)[::-1]])


def ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0) -> Points:
    """Return an ellipse as a polygon: centre, half axes and rotation in radians."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    u, v = a * np.cos(angle), b * np.sin(angle)
    return np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], axis=1)


def smooth(knots: Sequence[tuple[float, float]], points: int = 64) -> Points:
    """Return a smooth closed curve through knots (a Catmull-Rom spline)."""
    given = np.asarray(knots, dtype=np.float64)
    each = max(2, points // len(given))
    t = np.linspace(0, 1, each, endpoint=False)[None, :, None]
    before, start, end, after = (np.roll(given, shift, axis=0)[:, None, :] for shift in (1, 0, -1, -2))
    curve = start + 0.5 * t * (
        end - before + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )
    return curve.reshape(-1, 2)
