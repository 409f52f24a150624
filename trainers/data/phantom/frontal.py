"""The frontal anatomy: outlines of a patient's chest in body coordinates.

x grows to the right of the picture (the patient's left), y downwards; one unit is half the side of a picture at scale 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.canvas import Points, ellipse, line, smooth, tube
from trainers.data.phantom.patients import Acquisition, Anatomy

#: Sign of x of each lung in a frontal picture.
SIDES = {"right": -1.0, "left": 1.0}
RIBS = 10
#: Distance of the mediastinal border of a lung from the midline.
_HILUM = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class Lung:
    """One lung as three curves; x is measured away from the midline, whichever side it is."""

    sign: float
    #: Half width of the chest, and the levels of the apex, the widest part, the dome and the costophrenic angle.
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
        up = np.minimum(np.maximum((self.widest - y) / (self.widest - self.apex), 0), 1)
        down = np.minimum(np.maximum((y - self.widest) / max(self.angle - self.widest, 0.1), 0), 1.2)
        return self.apex_x + (self.wide * (1 - 0.035 * down**2) - self.apex_x) * np.sqrt(1 - up**2.3)

    def inner(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of the mediastinal border from the midline at levels y."""
        up = np.minimum(np.maximum((self.widest - y) / (self.widest - self.apex), 0), 1)
        return self.apex_x - (self.apex_x - _HILUM) * np.sqrt(1 - up**5)

    def floor(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the level of the diaphragm at distances x from the midline."""
        edge = self.wide * 0.965
        lateral = np.minimum(np.maximum((x - self.dome_x) / (edge - self.dome_x), 0), 1.2) ** 2.6 * (self.angle - self.dome)
        medial = np.maximum((self.dome_x - x) / self.dome_x, 0) ** 2 * 0.10
        return self.dome + lateral + medial

    def place(self, x: NDArray[np.float64], y: NDArray[np.float64] | float) -> Points:
        """Return body coordinates (..., 2) of distances x from the midline at levels y."""
        return line(self.sign * x, y)

    def outline(self) -> Points:
        """Return the lung as a polygon: down the chest wall, along the diaphragm, up the mediastinum."""
        y = self.apex + (self.angle - self.apex) * _DOWN
        wall = self.outer(y)
        x = wall[-1] + (_HILUM - wall[-1]) * _ALONG
        bottom = self.floor(x)
        back = self.apex + (bottom[-1] - self.apex) * _BACK
        return np.concatenate([self.place(wall, y), self.place(x, bottom), self.place(self.inner(back), back)])

    def inside(self, across: float, down: float) -> tuple[float, float]:
        """Return the body coordinates of a point `across` (0 medial, 1 lateral) and `down` (0 apex, 1 base) the lung."""
        bottom = float(self.floor(np.array(0.12 + across * (self.wide - 0.12))))
        y = np.array(self.apex + 0.06 + down * (bottom - self.apex - 0.06))
        low, high = float(self.inner(y)), float(self.outer(y))
        return self.sign * (low + across * (high - low)), float(y)


_DOWN = np.linspace(0, 1, 28) ** 1.5
_ALONG = np.linspace(0, 1, 20)[1:]
_BACK = np.linspace(1, 0, 16)[1:] ** 1.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontal:
    """The outlines of a frontal chest: (n, 2) one polygon, (k, n, 2) several."""

    lungs: dict[str, Lung]
    body: Points
    mediastinum: Points
    heart: Points
    spine: Points
    discs: Points
    ribs_back: Points
    ribs_front: Points
    clavicles: Points
    scapulae: Points
    trachea: Points
    breasts: Points
    stomach: Points
    #: Level of the hila.
    hilum: float


def frontal_anatomy(a: Anatomy, q: Acquisition, heart: float) -> Frontal:
    """Return the outlines of a patient in one frontal picture; `heart` widens the heart (1 is healthy)."""
    lungs = {side: frontal_lung(a, q, side) for side in SIDES}
    both = tuple(lungs.values())
    spread = heart * (1.07 if q.portable else 1.0) * (1 + 0.075 * a.heart)
    mediastinum, cardiac = _silhouette(a, q, spread, lungs)
    ribs_back, ribs_front = _ribs(a, both)
    return Frontal(
        lungs=lungs,
        body=_body(a, lungs),
        mediastinum=mediastinum,
        heart=cardiac,
        spine=_spine(a, q),
        discs=_discs(a, q),
        ribs_back=ribs_back,
        ribs_front=ribs_front,
        clavicles=np.stack([_clavicle(a, q, lung) for lung in both]),
        scapulae=np.stack([_scapula(a, q, lung) for lung in both]),
        trachea=_trachea(a, q),
        breasts=np.stack([_breast(a, lung) for lung in both]),
        stomach=_stomach(a, lungs["left"]),
        hilum=-0.09 + 0.03 * a.hilum,
    )


def frontal_lung(a: Anatomy, q: Acquisition, side: str) -> Lung:
    """Return one lung of a patient as the picture has it: breath, posture and turn included."""
    sign = SIDES[side]
    level = 0.38 + 0.065 * q.breath + 0.05 * a.height - (0.05 if q.portable else 0.0)
    dome = level + (0.03 + 0.04 * a.dome_left if side == "left" else 0.04 * a.dome_right)
    return Lung(
        sign=sign,
        wide=0.665 * (1 + 0.075 * a.width) * (1 + sign * (0.022 * a.asymmetry + 0.022 * q.turn)),
        apex=-0.71 - 0.05 * a.height - 0.02 * a.apex * sign,
        widest=0.10,
        dome=dome,
        angle=dome + 0.19 + 0.02 * q.breath,
        apex_x=0.27 * (1 + 0.05 * a.width),
        dome_x=0.30 * (1 + 0.06 * a.width),
    )


def _body(a: Anatomy, lungs: dict[str, Lung]) -> Points:
    wall = 0.10 + 0.03 * a.fat
    top = -0.70 - 0.05 * a.height
    neck = [(0.17, -1.6), (0.18, top - 0.22), (0.30, top - 0.11), (0.62, top - 0.02), (0.96, top + 0.10), (1.12, top + 0.36)]
    trunk = [(1.02, top + 0.70), (0.02, 0.10), (0.02, 0.6), (0.05, 1.8)]
    sides = []
    for lung in lungs.values():
        edge = lung.wide + wall
        sides.append([(lung.sign * (x if y < 0.05 else edge + x), y) for x, y in (*neck, *trunk)])
    return smooth([*sides[1], *sides[0][::-1]], 120)


_LEVELS = np.array([-1.0, -0.66, -0.47, -0.385, -0.30, -0.20, -0.11, 0.0, 0.16, 0.30, 0.40, 0.50, 0.70])
_LEFT = np.array([0.10, 0.095, 0.13, 0.17, 0.135, 0.125, 0.15, 0.20, 0.29, 0.36, 0.37, 0.32, 0.20])
_RIGHT = np.array([0.10, 0.105, 0.11, 0.115, 0.115, 0.12, 0.13, 0.155, 0.19, 0.20, 0.18, 0.15, 0.10])
_CARDIAC = np.clip((_LEVELS + 0.15) / 0.35, 0, 1)
_KNOB = np.array([0, 0, 0.3, 1, 0.3, 0, 0, 0, 0, 0, 0, 0, 0])
_FINE = np.linspace(0, 1, 48)
_ROUNDING = np.array([1, 2, 3, 2, 1]) / 9


def _silhouette(a: Anatomy, q: Acquisition, spread: float, lungs: dict[str, Lung]) -> tuple[Points, Points]:
    """Return the outlines of mediastinum and heart together, and of the heart alone."""
    # Levels below the carina stretch with the diaphragm: a low diaphragm makes a long, narrow heart.
    stretch = (lungs["right"].dome + lungs["left"].dome) / 2 / 0.38
    levels = np.where(_LEVELS > 0, _LEVELS * stretch, _LEVELS)
    grown = 1 + _CARDIAC * (spread * (1 - 0.25 * (stretch - 1)) - 1)
    lean = _CARDIAC * (0.03 * a.heart_tilt + 0.02 * q.turn)
    y = levels[0] + (levels[-1] - levels[0]) * _FINE
    left = np.interp(y, levels, (_LEFT + 0.025 * a.aorta * _KNOB) * grown + lean)
    right = np.interp(y, levels, _RIGHT * grown - lean)
    left, right = (np.asarray(np.convolve(x, _ROUNDING, "same")[2:-2], np.float64) for x in (left, right))
    y = y[2:-2]
    whole = np.concatenate([line(left, y), line(-right, y)[::-1]])
    # The heart's own upper border is rounded towards the great vessels.
    low = y > -0.14
    crown = np.sqrt(np.minimum((y[low] + 0.14) / 0.16, 1))
    return whole, np.concatenate([line(left[low] * crown, y[low]), line(-right[low] * crown, y[low])[::-1]])


def _spine_x(a: Anatomy, q: Acquisition, y: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.018 * a.spine * np.sin(2.2 * y + a.rib_phase) - 0.012 * q.turn


_SPINE = np.linspace(-1.4, 1.6, 40)
_SPINE_WIDTH = 0.145 + 0.035 * np.clip(_SPINE, -0.5, 1)


def _spine(a: Anatomy, q: Acquisition) -> Points:
    return tube(line(_spine_x(a, q, _SPINE), _SPINE), _SPINE_WIDTH)


_DISCS = -1.0 + np.cumsum(np.linspace(0.105, 0.15, 17))


def _discs(a: Anatomy, q: Acquisition) -> Points:
    level = (_DISCS + 0.03 * a.rib_phase)[:, None]
    half = 0.068 + 0.015 * np.maximum(level, -0.5)
    return line(_spine_x(a, q, level) + half * np.array([-1.0, 0.0, 1.0]), level + np.array([0.0, 0.006, 0.0]))


_RIB = np.arange(RIBS)[:, None]


def rib_levels(a: Anatomy, lung: Lung, angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the levels (ribs, n) of the ribs at angles (n,) around the chest, 0 at the spine and pi at the front, and their walls."""
    spacing = (lung.angle - lung.apex - 0.10) / (RIBS - 0.6)
    top = lung.apex + 0.035 + spacing * (0.10 * a.rib_phase + _RIB)
    drop = (0.20 + 0.05 * _RIB + 0.05 * a.rib_slope) * np.where(_RIB < 1, 0.7, 1.0)
    y = top + drop * (0.56 * (1 - np.cos(angle)) - 0.30 * np.sin(angle) ** 2 * np.cos(angle / 2))
    wall = lung.outer(np.maximum(top + 0.30 * drop, lung.apex + 0.09)) + 0.012
    return y, wall


#: Angles around the chest of the posterior parts of the ribs, then of the anterior ones: they overlap at the side of the chest.
_AROUND = np.pi * np.concatenate([np.linspace(0.0, 0.53, 14), np.linspace(0.47, 0.80, 12)])
_BEHIND, _BEFORE = slice(0, 14), slice(14, 26)
_OUTWARDS = np.sin(_AROUND) ** 0.85


def _ribs(a: Anatomy, lungs: Sequence[Lung]) -> tuple[Points, Points]:
    """Each rib is a half ellipse seen from the front: from the spine outwards, and back inwards at the front."""
    centres = []
    for lung in lungs:
        y, wall = rib_levels(a, lung, _AROUND)
        centres.append(lung.place(0.085 + (wall - 0.085) * _OUTWARDS, y))
    centre = np.concatenate(centres)
    width = 0.045 * (1 + 0.08 * a.ribs)
    return tube(centre[:, _BEHIND], width), tube(centre[:, _BEFORE], width)


_T = np.linspace(0, 1, 16)
_RISE = 0.13 * _T + 0.035 * np.sin(2 * np.pi * _T)
_CLAVICLE = 0.058 - 0.018 * np.sin(np.pi * _T) + 0.02 * (_T < 0.1)


def _clavicle(a: Anatomy, q: Acquisition, lung: Lung) -> Points:
    level = lung.apex + 0.22 + 0.035 * a.clavicles - (0.05 if q.portable else 0.0)
    centre = lung.place(0.055 + 0.76 * _T * (1 + 0.05 * a.width), level - _RISE)
    centre[:, 0] += 0.035 * q.turn
    return tube(centre, _CLAVICLE)


def _scapula(a: Anatomy, q: Acquisition, lung: Lung) -> Points:
    out = lung.wide + (0.02 if q.portable else 0.08) + 0.02 * a.asymmetry * lung.sign
    top = lung.apex + 0.18
    knots = [(out - 0.10, top), (out + 0.22, top - 0.03), (out + 0.28, top + 0.15), (out + 0.06, top + 0.66), (out - 0.02, top + 0.62)]
    return smooth([(lung.sign * x, y) for x, y in knots], 40)


_WINDPIPE = np.linspace(-1.2, -0.27, 14)
_LEANING = 0.012 * np.clip(_WINDPIPE + 0.6, 0, 1)


def _trachea(a: Anatomy, q: Acquisition) -> Points:
    return tube(line(0.012 * a.spine + 0.016 * q.turn + _LEANING, _WINDPIPE), 0.072)


def _breast(a: Anatomy, lung: Lung) -> Points:
    size = 0.30 + 0.04 * a.breast + 0.02 * a.fat
    x, y = lung.sign * (0.40 + 0.03 * a.width), 0.26 + 0.06 * a.breast + 0.012 * lung.sign * a.asymmetry
    return ellipse(x, y, size, size * 0.82, -0.2 * lung.sign)


def _stomach(a: Anatomy, lung: Lung) -> Points:
    size = 0.085 + 0.03 * a.stomach
    return ellipse(0.33 + 0.03 * a.asymmetry, lung.dome + 0.065 + size * 0.7, size * 1.35, size, 0.15)
