"""The lateral anatomy of the same patient: outlines of the chest from the side, in body coordinates.

x grows to the right of the picture (the patient's back), y downwards on the same scale as in the frontal view, so that what lies at one
level there lies at that level here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.canvas import Points, ellipse, line, smooth, tube
from trainers.data.phantom.frontal import SIDES, Lung, frontal_lung, rib_levels
from trainers.data.phantom.patients import Acquisition, Anatomy

_Y = np.array([-0.70, -0.66, -0.58, -0.45, -0.20, 0.05, 0.30, 0.60, 0.90])
_FRONT = np.array([0.13, 0.02, -0.12, -0.27, -0.44, -0.52, -0.55, -0.55, -0.52])
_BACK = np.array([0.13, 0.24, 0.37, 0.48, 0.57, 0.60, 0.60, 0.57, 0.53])
_CREST = -0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class SideLung:
    """One lung from the side."""

    #: Stretch of the chest from front to back, and the levels of the apex, the dome and the posterior costophrenic angle.
    deep: float
    apex: float
    dome: float
    angle: float

    def front(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x of the lung's front at levels y."""
        return self.deep * np.interp(y - self.apex - 0.70, _Y, _FRONT)

    def back(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return x of the lung's back at levels y."""
        return self.deep * np.interp(y - self.apex - 0.70, _Y, _BACK)

    def floor(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the level of the diaphragm at x."""
        u = x / self.deep - _CREST
        return self.dome + np.where(u > 0, (self.angle - self.dome) * (np.abs(u) / 0.70) ** 2.2, 0.12 * (u / 0.43) ** 2)

    def outline(self) -> Points:
        """Return the lung as a polygon: down the front, along the diaphragm, up the back."""
        down = self.apex + (self.dome + 0.11 - self.apex) * _DOWN
        front = self.front(down)
        x = np.linspace(front[-1], self.deep * 0.575, 22)
        floor = self.floor(x)
        up = self.apex + (floor[-1] - self.apex) * _DOWN[::-1]
        return np.concatenate([line(front, down), line(x, floor), line(self.back(up), up)])

    def inside(self, across: float, y: float) -> tuple[float, float]:
        """Return the body coordinates of a point `across` (0 front, 1 back) the lung at a level, kept above the diaphragm."""
        level = np.array(y)
        x = float(self.front(level) + (0.12 + 0.76 * across) * (self.back(level) - self.front(level)))
        return x, min(y, float(self.floor(np.array(x))) - 0.04)


_DOWN = np.linspace(0, 1, 24) ** 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateral:
    """The outlines of a lateral chest: (n, 2) one polygon, (k, n, 2) several."""

    lungs: dict[str, SideLung]
    #: The frontal lungs of the same picture, which give findings their levels.
    levels: dict[str, Lung]
    body: Points
    arms: Points
    heart: Points
    aorta: Points
    spine: Points
    discs: Points
    ribs: Points
    sternum: Points
    trachea: Points
    breast: Points
    hilum: float


def lateral_anatomy(a: Anatomy, q: Acquisition, heart: float) -> Lateral:
    """Return the outlines of a patient in one lateral picture; `heart` enlarges the heart (1 is healthy)."""
    levels = {side: frontal_lung(a, q, side) for side in SIDES}
    deep = 1 + 0.07 * a.depth
    lungs = {
        side: SideLung(deep=deep, apex=lung.apex + 0.04, dome=lung.dome, angle=lung.dome + 0.30 + 0.02 * q.breath)
        for side, lung in levels.items()
    }
    return Lateral(
        lungs=lungs,
        levels=levels,
        body=_body(a, deep),
        arms=_arms(a, q),
        heart=_heart(a, lungs["left"], heart * (1 + 0.075 * a.heart)),
        aorta=_aorta(a, deep),
        spine=_spine(a, deep),
        discs=_discs(a, deep),
        ribs=np.concatenate([_ribs(a, levels[side], deep, 0.03 * sign + 0.012 * q.turn) for side, sign in SIDES.items()]),
        sternum=_sternum(a, deep),
        trachea=_trachea(a),
        breast=ellipse(-deep * 0.62, 0.24 + 0.06 * a.breast, 0.20 + 0.03 * a.breast, 0.24 + 0.02 * a.fat, 0.2),
        hilum=-0.09 + 0.03 * a.hilum,
    )


def _body(a: Anatomy, deep: float) -> Points:
    back, front = 0.72 * deep + 0.03 * a.fat, -0.62 * deep - 0.04 * a.fat
    knots = [
        (0.02, -1.6),
        (-0.04, -0.98),
        (front * 0.62, -0.62),
        (front * 0.95, -0.20),
        (front, 0.2),
        (front * 1.03, 0.6),
        (front * 1.1, 1.8),
    ]
    return smooth(
        [
            *knots,
            (back * 0.86, 1.8),
            (back * 0.84, 0.9),
            (back, 0.3),
            (back * 1.04, -0.2),
            (back * 0.95, -0.62),
            (0.46, -1.02),
            (0.36, -1.6),
        ],
        112,
    )


def _arms(a: Anatomy, q: Acquisition) -> Points:
    lift = 0.04 * q.shift_y
    knots = [
        (-0.95, -1.5),
        (-0.62, -0.98 + lift),
        (-0.20, -0.70 + lift),
        (0.25, -0.52 + lift),
        (0.50, -0.58 + lift),
        (0.62, -0.85),
        (0.60, -1.6),
    ]
    return smooth(knots, 56)


def _heart(a: Anatomy, lung: SideLung, size: float) -> Points:
    low, x = lung.dome + 0.07, -0.22 * lung.deep + 0.12 * (size - 1)
    turn = 0.75 + 0.08 * a.heart_tilt
    return ellipse(x, low - 0.235 * size, 0.31 * size, 0.225 * size, turn)


def _aorta(a: Anatomy, deep: float) -> Points:
    knots = np.array([[-0.20, 0.02], [-0.20, -0.20], [-0.10, -0.38], [0.08, -0.44], [0.24, -0.38], [0.34, -0.2], [0.38, 0.1], [0.37, 0.5]])
    return tube(knots * np.array([deep, 1.0]), 0.12 + 0.015 * a.aorta)


def _spine_x(a: Anatomy, deep: float, y: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.interp(y, [-1.5, -1.0, -0.7, -0.4, 0.0, 0.4, 0.8, 1.6], [0.22, 0.27, 0.36, 0.47, 0.54, 0.52, 0.44, 0.36])
    return deep * (x + 0.02 * a.spine * np.sin(1.8 * (y + 0.3)))


def _spine(a: Anatomy, deep: float) -> Points:
    y = np.linspace(-1.5, 1.6, 44)
    return tube(line(_spine_x(a, deep, y), y), 0.13 + 0.03 * np.clip(y, -0.5, 1))


def _discs(a: Anatomy, deep: float) -> Points:
    level = (-1.0 + 0.03 * a.rib_phase + np.cumsum(np.linspace(0.105, 0.15, 17)))[:, None]
    half = 0.065 + 0.015 * np.clip(level, -0.5, 1)
    slope = _spine_x(a, deep, level + 0.05) - _spine_x(a, deep, level - 0.05)
    across = half * np.array([-1.0, 1.0])
    return line(_spine_x(a, deep, level) + across, level - across * slope * 10)


def _ribs(a: Anatomy, lung: Lung, deep: float, shift: float) -> Points:
    angle = np.pi * np.linspace(0.10, 0.80, 16)
    y, _ = rib_levels(a, lung, angle)
    fall = np.interp(y, _Y, _BACK) - np.interp(y, _Y, _FRONT)
    middle = (np.interp(y, _Y, _BACK) + np.interp(y, _Y, _FRONT)) / 2
    x = deep * (middle + fall / 2 * np.cos(angle) * 1.06) + shift
    return tube(line(x, y + 0.5 * shift), 0.036 * (1 + 0.08 * a.ribs))


def _sternum(a: Anatomy, deep: float) -> Points:
    y = np.linspace(-0.46, 0.16, 14)
    return tube(line(deep * np.interp(y + 0.02, _Y, _FRONT) - 0.045, y), 0.042 + 0.008 * np.cos(20 * y) + 0.004 * a.ribs)


def _trachea(a: Anatomy) -> Points:
    y = np.linspace(-1.2, -0.14, 14)
    return tube(line(0.10 + 0.02 * a.spine - 0.03 * np.clip(-y, 0, 1), y), 0.075)
