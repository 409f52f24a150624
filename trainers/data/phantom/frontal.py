"""The frontal anatomy: outlines of a patient's chest in body coordinates.

x grows to the right of the picture (the patient's left), y downwards; one unit is half the side of a picture at scale 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.canvas import Points, ellipse, smooth, tube
from trainers.data.phantom.patients import Acquisition, Anatomy

#: Sign of x of each lung in a frontal picture.
SIDES = {"right": -1.0, "left": 1.0}
RIBS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Lung:
    """One lung as three curves; x is measured away from the midline, whichever side it is."""

    sign: float
    middle: float
    #: Half width of the chest, levels of the apex, the widest part, the dome and the costophrenic angle.
    wide: float
    apex: float
    widest: float
    dome: float
    angle: float
    #: Distance of the apex and of the top of the dome from the midline.
    apex_x: float
    dome_x: float

    def outer(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of the chest wall from the midline at levels y."""
        up = np.clip((self.widest - y) / (self.widest - self.apex), 0, 1)
        down = np.clip((y - self.widest) / max(self.angle - self.widest, 0.1), 0, 1.2)
        return self.apex_x + (self.wide * (1 - 0.035 * down**2) - self.apex_x) * np.sqrt(1 - up**2.3)

    def inner(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of the mediastinal border from the midline at levels y."""
        up = np.clip((self.widest - y) / (self.widest - self.apex), 0, 1)
        return self.apex_x - (self.apex_x - 0.07) * np.sqrt(1 - up**5)

    def floor(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the level of the diaphragm at distances x from the midline."""
        edge = float(self.outer(np.array(self.angle)))
        lateral = np.clip((x - self.dome_x) / (edge - self.dome_x), 0, 1.2) ** 2.6 * (self.angle - self.dome)
        medial = np.clip((self.dome_x - x) / self.dome_x, 0, 1) ** 2 * 0.10
        return self.dome + lateral + medial

    def place(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Points:
        """Return body coordinates (n, 2) of distances x from the midline at levels y."""
        return np.stack([self.middle + self.sign * x, np.broadcast_to(y, x.shape)], axis=1)

    def outline(self) -> Points:
        """Return the lung as a polygon: down the chest wall, along the diaphragm, up the mediastinum."""
        y = self.apex + (self.angle - self.apex) * np.linspace(0, 1, 28) ** 1.5
        wall = self.outer(y)
        x = np.linspace(wall[-1], 0.07, 20)[1:]
        back = np.linspace(float(self.floor(np.array(0.07))), self.apex, 16)[1:-1]
        back = self.apex + (back[0] - self.apex) * np.linspace(1, 0, 16)[1:] ** 1.6
        return np.concatenate([self.place(wall, y), self.place(x, self.floor(x)), self.place(self.inner(back), back)])

    def inside(self, across: float, down: float) -> tuple[float, float]:
        """Return the body coordinates of a point `across` (0 medial, 1 lateral) and `down` (0 apex, 1 base) the lung."""
        x = 0.12 + across * (self.wide - 0.12)
        bottom = float(self.floor(np.array(x)))
        y = np.array(self.apex + 0.06 + down * (bottom - self.apex - 0.06))
        low, high = float(self.inner(y)), float(self.outer(y))
        return self.middle + self.sign * (low + across * (high - low)), float(y)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontal:
    """The outlines of a frontal chest."""

    lungs: dict[str, Lung]
    body: Points
    heart: Points
    vessels_root: Points
    spine: Points
    discs: list[Points]
    ribs_back: list[Points]
    ribs_front: list[Points]
    clavicles: list[Points]
    scapulae: list[Points]
    trachea: Points
    breasts: list[Points]
    stomach: Points
    middle: float


def frontal_anatomy(a: Anatomy, q: Acquisition, heart: float) -> Frontal:
    """Return the outlines of a patient in one frontal picture; `heart` widens the heart (1 is healthy)."""
    lungs = {side: _lung(a, q, side) for side in SIDES}
    middle = 0.012 * q.turn
    portable = 1.07 if q.portable else 1.0
    spread = heart * portable * (1 + 0.075 * a.heart)
    return Frontal(
        lungs=lungs,
        body=_body(a, q, lungs),
        heart=_silhouette(a, q, spread, lungs),
        vessels_root=np.array([[0.0, -0.09 + 0.03 * a.hilum]]),
        spine=_spine(a, q),
        discs=_discs(a, q),
        ribs_back=[rib for lung in lungs.values() for rib in _ribs(a, lung, 0.0, 0.53)],
        ribs_front=[rib for lung in lungs.values() for rib in _ribs(a, lung, 0.47, 0.82)],
        clavicles=[_clavicle(a, q, lung) for lung in lungs.values()],
        scapulae=[_scapula(a, q, lung) for lung in lungs.values()],
        trachea=_trachea(a, q),
        breasts=_breasts(a, lungs),
        stomach=_stomach(a, lungs["left"]),
        middle=middle,
    )


def _lung(a: Anatomy, q: Acquisition, side: str) -> Lung:
    sign = SIDES[side]
    wide = 0.665 * (1 + 0.075 * a.width) * (1 + sign * (0.022 * a.asymmetry + 0.022 * q.turn))
    apex = -0.71 - 0.05 * a.height - 0.02 * a.apex * sign
    level = 0.36 + 0.085 * q.breath + 0.05 * a.height - (0.04 if q.portable else 0.0)
    dome = level + (0.035 + 0.05 * a.dome_left if side == "left" else 0.05 * a.dome_right)
    return Lung(
        sign=sign,
        middle=0.0,
        wide=wide,
        apex=apex,
        widest=0.10,
        dome=dome,
        angle=dome + 0.19 + 0.02 * q.breath,
        apex_x=0.27 * (1 + 0.05 * a.width),
        dome_x=0.30 * (1 + 0.06 * a.width),
    )


def _body(a: Anatomy, q: Acquisition, lungs: dict[str, Lung]) -> Points:
    wall = 0.10 + 0.035 * a.fat
    right, left = lungs["right"].wide + wall, lungs["left"].wide + wall
    top = -0.70 - 0.05 * a.height
    half = [(0.17, -1.6), (0.18, top - 0.17), (0.34, top - 0.07), (0.66, top + 0.02), (0.98, top + 0.14), (1.10, top + 0.40)]
    arm = [(1.02, 0.0), (1.0, 0.9), (1.0, 1.8)] if a.fat > 0.8 else [(0.0, 0.10), (0.01, 0.6), (0.03, 1.8)]
    knots = [*half, (0.96, top + 0.62)] if a.fat <= 0.8 else half
    sides = [
        [(sign * (x if y < 0 or a.fat > 0.8 else edge + x), y) for x, y in (*knots, *arm)] for sign, edge in ((1.0, left), (-1.0, right))
    ]
    return smooth([*sides[0], *sides[1][::-1]], 128)


def _silhouette(a: Anatomy, q: Acquisition, spread: float, lungs: dict[str, Lung]) -> Points:
    floor = (lungs["right"].dome + lungs["left"].dome) / 2
    y = np.linspace(0, 1, 40)
    knots = np.array([-1.0, -0.66, -0.47, -0.385, -0.30, -0.20, -0.11, 0.0, 0.16, 0.30, 0.40, 0.50])
    # Levels below the carina stretch with the diaphragm: a low diaphragm makes a long, narrow heart.
    stretch = (floor - 0.0) / 0.38
    levels = np.where(knots > 0, knots * stretch, knots)
    left = np.array([0.10, 0.095, 0.13, 0.17 + 0.025 * a.aorta, 0.135, 0.125, 0.15, 0.20, 0.29, 0.36, 0.37, 0.30])
    right = np.array([0.10, 0.105, 0.11, 0.115, 0.115, 0.12, 0.13, 0.155, 0.19, 0.20, 0.18, 0.14])
    weight = np.clip((knots + 0.15) / 0.35, 0, 1)
    narrow = 1 - 0.25 * (stretch - 1)
    grown = 1 + weight * (spread * narrow - 1)
    lean = weight * (0.03 * a.heart_tilt + 0.02 * q.turn)
    y = levels[0] + (levels[-1] - levels[0]) * y
    x_left = np.interp(y, levels, left * grown + lean)
    x_right = np.interp(y, levels, right * grown - lean)
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    x_left, x_right = (np.convolve(np.pad(x, 2, mode="edge"), kernel, "valid") for x in (x_left, x_right))
    return np.concatenate([np.stack([x_left, y], 1), np.stack([-x_right, y], 1)[::-1]])


def _spine_x(a: Anatomy, q: Acquisition, y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.018 * a.spine * np.sin(2.2 * y + a.rib_phase) - 0.012 * q.turn


def _spine(a: Anatomy, q: Acquisition) -> Points:
    y = np.linspace(-1.4, 1.6, 40)
    return tube(np.stack([_spine_x(a, q, y), y], 1), 0.145 + 0.035 * np.clip(y, -0.5, 1))


def _discs(a: Anatomy, q: Acquisition) -> list[Points]:
    levels = -1.0 + 0.03 * a.rib_phase + np.cumsum(np.linspace(0.105, 0.15, 17))
    found = []
    for level in levels:
        x = float(_spine_x(a, q, np.array(level)))
        half = 0.068 + 0.015 * max(level, -0.5)
        found.append(np.array([[x - half, level], [x, level + 0.006], [x + half, level]]))
    return found


def _ribs(a: Anatomy, lung: Lung, start: float, end: float) -> list[Points]:
    """Each rib is a half ellipse seen from the front: from the spine outwards (start 0) and back inwards at the front (end 1)."""
    number = np.arange(RIBS)[:, None]
    spacing = (lung.angle - lung.apex - 0.10) / (RIBS - 0.6)
    first = lung.apex + 0.035 + spacing * (0.10 * a.rib_phase)
    angle = np.pi * np.linspace(start, end, 14)[None, :]
    top = first + spacing * number
    drop = (0.20 + 0.05 * number + 0.05 * a.rib_slope) * np.where(number < 1, 0.7, 1.0)
    y = top + drop * (1.12 * (1 - np.cos(angle)) / 2 - 0.30 * np.sin(angle) ** 2 * np.cos(angle / 2))
    wall = lung.outer(np.maximum(top + 0.30 * drop, lung.apex + 0.09)) + 0.012
    x = 0.085 + (wall - 0.085) * np.sin(angle) ** 0.85
    width = 0.047 * (1 + 0.08 * a.ribs)
    return [tube(lung.place(x[i], y[i]), width) for i in range(RIBS)]


def _clavicle(a: Anatomy, q: Acquisition, lung: Lung) -> Points:
    t = np.linspace(0, 1, 16)
    x = 0.055 + 0.76 * t * (1 + 0.05 * a.width)
    y = lung.apex + 0.22 + 0.035 * a.clavicles - (0.05 if q.portable else 0.0) - 0.13 * t - 0.035 * np.sin(2 * np.pi * t)
    width = 0.058 - 0.018 * np.sin(np.pi * t) + 0.02 * (t < 0.1)
    line = lung.place(x, y)
    line[:, 0] += 0.035 * q.turn
    return tube(line, width)


def _scapula(a: Anatomy, q: Acquisition, lung: Lung) -> Points:
    out = lung.wide + (0.02 if q.portable else 0.08) + 0.02 * a.asymmetry * lung.sign
    top = lung.apex + 0.18
    knots = [(out - 0.10, top), (out + 0.22, top - 0.03), (out + 0.28, top + 0.15), (out + 0.06, top + 0.66), (out - 0.02, top + 0.62)]
    return smooth([(lung.middle + lung.sign * x, y) for x, y in knots], 40)


def _trachea(a: Anatomy, q: Acquisition) -> Points:
    y = np.linspace(-1.2, -0.27, 14)
    x = 0.012 * a.spine + 0.016 * q.turn + 0.012 * np.clip(y + 0.6, 0, 1)
    return tube(np.stack([x, y], 1), 0.072)


def _breasts(a: Anatomy, lungs: dict[str, Lung]) -> list[Points]:
    size = 0.30 + 0.04 * a.breast + 0.02 * a.fat
    return [
        ellipse(lung.sign * (0.40 + 0.03 * a.width), 0.30 + 0.06 * a.breast + 0.012 * lung.sign * a.asymmetry, size, size * 0.82, -0.2 * lung.sign)
        for lung in lungs.values()
    ]


def _stomach(a: Anatomy, lung: Lung) -> Points:
    size = 0.09 + 0.03 * a.stomach
    return ellipse(0.33 + 0.03 * a.asymmetry, lung.dome + 0.07 + size * 0.7, size * 1.35, size, 0.15)
