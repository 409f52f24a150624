"""From a study to a picture: attenuation of what the beam passes, then what a detector and a workstation make of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.canvas import Canvas, Field, Points, Pose
from trainers.data.phantom.findings import Shapes, amount, frontal_shapes, heart_growth
from trainers.data.phantom.frontal import Frontal, Lung, frontal_anatomy
from trainers.data.phantom.patients import Acquisition, Study, Stream, draw_acquisition, stream
from trainers.data.phantom.sources import FINDINGS, SOURCES
from trainers.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One made radiograph: uint8 (px, px), and on request masks (px, px) of what is in it."""

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]


def render(study: Study, view: str, *, px: int, strength: float = 1.0, masks: bool = False) -> Picture:
    """Make one view of a study at `px` pixels a side; `masks` adds those of lungs, heart and the findings that are present."""
    if view != "frontal":
        raise DataError(f"view '{view}' cannot be made: give frontal")
    return _frontal(study, px, strength, masks)


def pose_of(q: Acquisition) -> Pose:
    """Return how a body lies in a picture: turned by up to 8 degrees or so, scaled and moved by about a tenth."""
    return Pose(angle=np.deg2rad(4.0) * q.tilt, scale=0.93 * float(np.exp(0.10 * q.scale)), x=0.10 * q.shift_x, y=0.06 + 0.10 * q.shift_y)


def _frontal(study: Study, px: int, strength: float, masks: bool) -> Picture:
    a, q = study.anatomy, draw_acquisition(study, "frontal")
    canvas = Canvas(px, pose_of(q))
    cardiac = study.lesions[FINDINGS.index("cardiomegaly")]
    growth = 1 + strength * (heart_growth(cardiac) - 1)
    chest = frontal_anatomy(a, q, growth)
    lungs = {side: canvas.fill(lung.outline()) for side, lung in chest.lungs.items()}
    shapes = frontal_shapes(canvas, chest.lungs, lungs, study.lesions)
    rng = stream(Stream.PIXELS, *study.key, 0)
    dense = _attenuation(canvas, study, chest, lungs, shapes, strength, rng)
    image = expose(dense, q, study.source, rng)
    heart = canvas.fill(chest.heart)
    found = {f"lung_{side}": mask for side, mask in lungs.items()} | {"heart": heart}
    fields = (shapes.fluid, heart, shapes.patch, lungs["left"] + lungs["right"], shapes.free_air, shapes.knot)
    for name, field, present in zip(FINDINGS, fields, study.truth, strict=True):
        if present and field is not None:
            found[name] = field
    return Picture(image=image, masks={name: field > 0.5 for name, field in found.items()} if masks else {})


def _attenuation(
    canvas: Canvas, study: Study, chest: Frontal, lungs: dict[str, Field], shapes: Shapes, strength: float, rng: np.random.Generator
) -> Field:
    a = study.anatomy
    body = canvas.fill(chest.body)
    depth = body * (0.30 + 0.70 * canvas.soften(body, 0.16))
    _, y = canvas.grid()
    both = lungs["right"] + lungs["left"]
    air = both * (0.30 + 0.70 * canvas.soften(both, 0.11))
    tissue = canvas.cloud(rng, 9)
    heart = canvas.fill(chest.heart)
    bulk = heart * (0.45 + 0.55 * canvas.soften(heart, 0.07))
    haze = strength * shapes.haze
    vessels = canvas.stroke(_tree(study, chest, 0), 0.030) * 1.0 + 0.8 * canvas.stroke(_tree(study, chest, 1), 0.018)
    vessels = canvas.soften(vessels, 0.006 + 0.008 * haze)
    gain = np.ones_like(air)
    if shapes.free_air is not None:
        vessels = vessels * (1 - shapes.free_air)
        gain = gain + 0.10 * strength * shapes.free_air
    gain = gain - 0.05 * tissue
    if haze:
        gain = gain - haze * (0.10 + 0.16 * np.abs(canvas.cloud(rng, max(16, 22))) )
    if shapes.patch is not None:
        gain = gain * (1 - 0.55 * strength * min(1.0, 0.4 + amount(study.lesions[2])) * shapes.patch)
    if shapes.fluid is not None:
        gain = gain * (1 - min(1.0, 0.85 * strength) * canvas.soften(shapes.fluid, 0.012))
    total = 0.66 * depth * (1 + 0.06 * a.fat) + 0.10 * body / (1 + np.exp(-(y - 0.35) / 0.12))
    total -= 0.50 * air * np.clip(gain, 0, 1.3)
    total += 0.34 * bulk * np.clip(both, 0, 1)
    total += (0.10 + 0.04 * haze) * vessels * both
    if shapes.pleura is not None:
        total += 0.10 * strength * shapes.pleura
    if shapes.knot is not None:
        total += 0.13 * strength * min(1.2, 0.4 + amount(study.lesions[5])) * shapes.knot
    bone = 1 + 0.12 * a.ribs
    total += bone * body * _bones(canvas, chest)
    total -= 0.10 * canvas.soften(canvas.fill(chest.trachea), 0.015) * (y < -0.2)
    if study.anatomy.female:
        total += 0.05 * canvas.soften(canvas.fill_apart(chest.breasts), 0.02) * body
    below = body * (1 - both)
    total -= 0.16 * canvas.soften(canvas.fill(chest.stomach), 0.02) * below
    return np.maximum(total, 0)


def _bones(canvas: Canvas, chest: Frontal) -> Field:
    back = canvas.fill_apart(chest.ribs_back)
    front = canvas.fill_apart(chest.ribs_front)
    rim = canvas.soften(back, 0.010)
    spine = canvas.fill(chest.spine)
    return (
        0.075 * back * (1.6 - 0.9 * rim)
        + 0.05 * front
        + 0.10 * canvas.soften(spine, 0.012)
        - 0.05 * canvas.soften(canvas.stroke(chest.discs, 0.022), 0.006) * spine
        + 0.10 * canvas.fill_apart(chest.clavicles)
        + 0.06 * canvas.soften(canvas.fill_apart(chest.scapulae), 0.006)
    )


def _tree(study: Study, chest: Frontal, level: int) -> list[Points]:
    rng = stream(Stream.VESSELS, *study.key[:3])
    found: list[list[Points]] = [[], []]
    for lung in chest.lungs.values():
        trunk, twigs = branches(lung, float(chest.vessels_root[0, 1]), rng)
        found[0] += trunk
        found[1] += twigs
    return found[level]


def branches(lung: Lung, root: float, rng: np.random.Generator) -> tuple[list[Points], list[Points]]:
    """Return vessels of one lung from the hilum outwards, thick ones and thin ones, as lines in body coordinates."""
    n, thin = 8, 3
    angle = np.linspace(-1.35, 1.30, n) + 0.12 * rng.standard_normal(n)
    reach = (0.34 + 0.10 * rng.random(n)) * (1 + 0.45 * np.abs(np.sin(angle)))
    bend = 0.35 * rng.standard_normal(n)
    t = np.linspace(0, 1, 7)[None, :]
    way = angle[:, None] + bend[:, None] * t
    x = 0.13 + np.cumsum(np.cos(way), 1) * (reach / 7)[:, None]
    y = root + np.cumsum(np.sin(way), 1) * (reach / 7)[:, None]
    thick = [lung.place(x[i], y[i]) for i in range(n)]
    start = rng.integers(2, 6, (n, thin))
    turn = 0.55 * rng.standard_normal((n, thin))
    length = 0.12 + 0.14 * rng.random((n, thin))
    s = np.linspace(0, 1, 4)
    fine = []
    for i in range(n):
        for j in range(thin):
            k = start[i, j]
            go = way[i, k] + turn[i, j] + 0.3 * s
            fine.append(lung.place(x[i, k] + length[i, j] * s * np.cos(go), y[i, k] + length[i, j] * s * np.sin(go)))
    return thick, fine


def expose(dense: Field, q: Acquisition, source: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn attenuation into a picture: scatter, window, film curve, noise, borders, as the acquisition has them."""
    hospital = SOURCES[source]
    px = len(dense)
    low, high = np.percentile(dense[:: max(1, px // 48), :: max(1, px // 48)], (8, 97))
    level = (dense - low) / max(high - low, 1e-3)
    level = 0.08 + 0.80 * level
    curve = np.sign(level) * np.abs(level) ** np.float32(np.exp(0.16 * q.gamma))
    curve = 0.5 + (curve - 0.5) * hospital.contrast * np.exp(0.08 * q.gain) + 0.03 * q.window
    grain = rng.standard_normal((px, px), dtype=np.float32)
    curve = curve + (0.018 * hospital.noise * np.exp(0.4 * q.noise)) * (0.6 + 0.8 * dense) * grain
    return np.clip(255 * curve, 0, 255).astype(np.uint8)


def resized(image: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Return an image at another size."""
    return cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)
