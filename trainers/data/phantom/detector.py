"""What is laid on a chest and what a detector makes of the beam: lines, electrodes, the marker, film curve, noise and borders."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.canvas import Canvas, Field, Points
from trainers.data.phantom.patients import Acquisition
from trainers.data.phantom.sources import Source

_LETTERS = {
    "L": ([(0.0, 0.0), (0.0, 1.0), (0.6, 1.0)],),
    "R": ([(0.0, 1.0), (0.0, 0.0), (0.5, 0.05), (0.6, 0.25), (0.5, 0.48), (0.0, 0.5)], [(0.25, 0.5), (0.62, 1.0)]),
}


def devices(canvas: Canvas, q: Acquisition, view: str) -> Field:
    """Draw what a patient carries, whatever the findings: a central line, a pacemaker, electrodes with their leads."""
    u = q.lines
    lines, leads, electrodes = [], [], []
    if u[0] < 0.22 and view == "frontal":
        lines.append(_curve([(-0.30 + 0.5 * u[1], -1.0), (-0.20 + 0.2 * u[1], -0.62), (-0.10, -0.40), (-0.11, -0.12 + 0.15 * u[2])]))
    if u[3] < (0.45 if q.portable else 0.12):
        for shift in (-0.5 + 0.2 * u[4], 0.42 + 0.2 * u[5]):
            leads.append(_curve([(shift * 1.5, -1.1), (shift * 1.3, -0.5), (shift, -0.2 + 0.3 * u[6]), (shift * 0.9, -0.16 + 0.3 * u[6])]))
            electrodes.append([(shift * 0.9, -0.14 + 0.3 * u[6])])
    total = canvas.stroke(lines, 0.014) if lines else np.zeros((canvas.px, canvas.px), np.float32)
    if electrodes:
        total = np.maximum(total, 0.6 * canvas.stroke(leads, 0.009))
        dots = [np.array([*dot, (dot[0][0] + 0.001, dot[0][1])]) for dot in electrodes]
        total = np.maximum(total, 0.7 * canvas.stroke(dots, 0.05))
    if u[7] < 0.07 and view == "frontal":
        x, y = 0.46 + 0.1 * u[8], -0.46 + 0.12 * u[9]
        box = np.array([(x - 0.09, y - 0.07), (x + 0.09, y - 0.08), (x + 0.10, y + 0.06), (x - 0.08, y + 0.08)])
        lead = _curve([(x, y), (0.20, -0.55), (-0.10, -0.30), (-0.10, 0.10), (0.12, 0.32)])
        total = np.maximum(total, np.maximum(1.4 * canvas.fill(box), canvas.stroke([lead], 0.014)))
    return total


def _curve(knots: list[tuple[float, float]]) -> Points:
    """Return a smooth open curve that starts and ends at the outer knots (a Bezier curve of their degree)."""
    points = np.array(knots)
    t = np.linspace(0, 1, 20)[:, None, None]
    points = np.broadcast_to(points, (20, *points.shape))
    while points.shape[1] > 1:
        points = points[:, :-1] * (1 - t) + points[:, 1:] * t
    return points[:, 0]


def expose(dense: Field, q: Acquisition, source: Source, view: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn attenuation (px, px) into a picture: window, film curve, noise, marker and borders, as the acquisition has them."""
    px = len(dense)
    step = max(1, px // 48)
    sample = np.sort(dense[::step, ::step], axis=None)
    low, high = sample[int(0.08 * len(sample))], sample[int(0.97 * len(sample))]
    level = np.maximum(0.06 + 0.80 / max(high - low, 1e-3) * (dense - low), 0)
    level = cv2.pow(level, float(np.exp(0.16 * q.gamma)))
    level = 0.5 + (level - 0.5) * np.float32(source.contrast * np.exp(0.08 * q.gain)) + np.float32(0.03 * q.window)
    grain = rng.standard_normal((px, px), dtype=np.float32)
    level += np.float32(0.018 * source.noise * np.exp(0.4 * q.noise)) * (0.6 + 0.8 * dense) * grain
    _mark(level, q, view)
    if source.border:
        top, bottom, left, right = (round(px * source.border * u) for u in q.border)
        level[:top], level[px - bottom :], level[:, :left], level[:, px - right :] = 0, 0, 0, 0
    return (level * 255).clip(0, 255).astype(np.uint8)


def _mark(level: Field, q: Acquisition, view: str) -> None:
    """Draw the side marker into the picture, in a corner that says nothing of the findings."""
    px = len(level)
    letter = "L" if q.marker < 0.5 or view == "lateral" else "R"
    height = max(4.0, 0.055 * px)
    x = 0.05 * px if letter == "R" else 0.91 * px
    y = (0.04 + 0.35 * (2 * q.marker % 1)) * px
    strokes = [np.round((np.array(part) * height + (x, y)) * 16).astype(np.int32) for part in _LETTERS[letter]]
    sheet = np.zeros((px, px), np.uint8)
    cv2.polylines(sheet, strokes, False, 255, max(1, round(px / 110)), cv2.LINE_AA, 4)
    np.maximum(level, sheet * np.float32(0.95 / 255), out=level)
