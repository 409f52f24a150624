"""From a study to a picture: attenuation of what the beam passes, summed layer by layer, then the detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.canvas import Canvas, Field, Pose, ellipse
from trainers.data.phantom.detector import devices, expose
from trainers.data.phantom.findings import SHOWN, Shapes, amount, heart_growth, shapes_in
from trainers.data.phantom.frontal import Frontal, frontal_anatomy
from trainers.data.phantom.lateral import Lateral, lateral_anatomy
from trainers.data.phantom.patients import Acquisition, Stream, Study, draw_acquisition, stream
from trainers.data.phantom.sources import FINDINGS, SOURCES
from trainers.data.phantom.vessels import Vessels, trees


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One made radiograph: uint8 (px, px), and on request masks (px, px) of what is in it."""

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What the beam passes in one view, as fields (px, px) of the canvas."""

    body: Field
    lungs: dict[str, Field]
    #: Heart alone, and heart with the great vessels.
    heart: Field
    middle: Field
    bones: Field
    #: What else is denser (breasts, arms) or thinner (airways, gas) than the body around it.
    other: Field
    vessels: Vessels
    hila: Field


def render(study: Study, view: str, *, px: int, strength: float = 1.0, masks: bool = False) -> Picture:
    """Make one view of a study at `px` pixels a side; `masks` adds those of lungs, heart and the findings that are present."""
    a, q = study.anatomy, draw_acquisition(study, view)
    canvas = Canvas(px, pose_of(q))
    growth = heart_growth(study.lesions[FINDINGS.index("cardiomegaly")], strength)
    trunk = stream(Stream.VESSELS, *study.key[:3], view == "lateral")
    if view == "frontal":
        chest = frontal_anatomy(a, q, growth)
        layers = _frontal_layers(canvas, study, chest, trunk)
    else:
        chest = lateral_anatomy(a, q, growth)
        layers = _lateral_layers(canvas, study, chest, trunk)
    shapes = shapes_in(canvas, chest, layers.lungs, study.lesions)
    rng = stream(Stream.PIXELS, *study.key, view == "lateral")
    dense = _attenuation(canvas, study, q, layers, shapes, strength=strength, view=view, rng=rng)
    dense += np.float32(0.22) * devices(canvas, q, view)
    image = expose(dense, q, SOURCES[study.source], view, rng)
    return Picture(image=image, masks=_masks(study, layers, shapes) if masks else {})


def pose_of(q: Acquisition) -> Pose:
    """Return how a body lies in a picture: turned by up to 9 degrees, scaled and moved by about a tenth."""
    return Pose(
        angle=float(np.deg2rad(4.0) * q.tilt), scale=1.02 * float(np.exp(0.10 * q.scale)), x=0.10 * q.shift_x, y=0.06 + 0.10 * q.shift_y
    )


def _frontal_layers(canvas: Canvas, study: Study, chest: Frontal, rng: np.random.Generator) -> Layers:
    a = study.anatomy
    body = canvas.fill(chest.body)
    lungs = {side: canvas.fill(lung.outline()) for side, lung in chest.lungs.items()}
    spine = canvas.fill(chest.spine)
    back = canvas.fill_apart(chest.ribs_back)
    bones = 0.085 * back * (1.7 - canvas.soften(back, 0.012)) + 0.045 * canvas.fill_apart(chest.ribs_front)
    bones *= 0.6 + 0.4 * np.maximum(lungs["left"], lungs["right"])
    bones += 0.055 * canvas.soften(spine, 0.012) - 0.045 * canvas.soften(canvas.stroke(chest.discs, 0.022), 0.006) * spine
    bones += 0.10 * canvas.fill(chest.clavicles) + 0.05 * canvas.soften(canvas.fill(chest.scapulae), 0.006)
    other = -0.09 * canvas.soften(canvas.fill(chest.trachea), 0.015)
    if a.female:
        _, y = canvas.grid()
        top = float(chest.breasts[..., 1].min())
        other += 0.07 * canvas.soften(canvas.fill(chest.breasts), 0.014) * np.clip((y - top) / 0.5, 0, 1)
    gas = canvas.fill(chest.stomach) * (1 - lungs["left"]) * body
    other -= np.float32(0.15 * np.clip(a.stomach + 1.2, 0, 1)) * canvas.soften(gas, 0.014)
    roots = [(lung.sign * 0.12, chest.hilum, lung.sign) for lung in chest.lungs.values()]
    hila = [ellipse(lung.sign * 0.145, chest.hilum + 0.02, 0.055, 0.12, -0.25 * lung.sign) for lung in chest.lungs.values()]
    return Layers(
        body=body,
        lungs=lungs,
        heart=canvas.fill(chest.heart),
        middle=canvas.fill(chest.mediastinum),
        bones=bones,
        other=other,
        vessels=trees(rng, roots, spread=1.45, reach=0.62),
        hila=canvas.soften(canvas.fill(*hila), 0.035),
    )


def _lateral_layers(canvas: Canvas, study: Study, chest: Lateral, rng: np.random.Generator) -> Layers:
    body = canvas.fill(chest.body)
    lungs = {side: canvas.fill(lung.outline()) for side, lung in chest.lungs.items()}
    spine = canvas.fill(chest.spine)
    bones = 0.045 * canvas.fill(chest.ribs[: len(chest.ribs) // 2]) + 0.045 * canvas.fill(chest.ribs[len(chest.ribs) // 2 :])
    bones *= 0.5 + 0.5 * np.maximum(lungs["left"], lungs["right"])
    bones += 0.13 * canvas.soften(spine, 0.010) - 0.08 * canvas.soften(canvas.stroke(chest.discs, 0.022), 0.006) * spine
    bones += 0.13 * canvas.soften(canvas.fill(chest.sternum), 0.006)
    other = 0.16 * canvas.soften(canvas.fill(chest.arms), 0.03) - 0.10 * canvas.soften(canvas.fill(chest.trachea), 0.015)
    other += 0.05 * canvas.soften(canvas.fill(chest.aorta), 0.012)
    if study.anatomy.female:
        other += 0.08 * canvas.soften(canvas.fill(chest.breast), 0.014)
    heart = canvas.soften(canvas.fill(chest.heart), 0.012)
    return Layers(
        body=np.maximum(body, 0.9 * canvas.fill(chest.arms)),
        lungs=lungs,
        heart=heart,
        middle=heart,
        bones=bones,
        other=other,
        vessels=trees(rng, [(0.03, chest.hilum, 0.0)], spread=1.45, reach=0.52),
        hila=canvas.soften(canvas.fill(ellipse(0.03, chest.hilum + 0.03, 0.09, 0.11)), 0.035),
    )


def _attenuation(
    canvas: Canvas, study: Study, q: Acquisition, layers: Layers, shapes: Shapes, *, strength: float, view: str, rng: np.random.Generator
) -> Field:
    """Sum what the layers take from the beam; findings fill the lungs, lesions add to them, free air leaves them empty."""
    a = study.anatomy
    by = {name: amount(lesion) for name, lesion in zip(FINDINGS, study.lesions, strict=True)}
    inside = np.maximum(layers.lungs["right"], layers.lungs["left"])
    lungs = inside if view == "frontal" else (layers.lungs["right"] + layers.lungs["left"]) / 2
    haze = strength * by["edema"]
    _, y = canvas.grid()
    depth = layers.body * (0.30 + 0.70 * canvas.soften(layers.body, 0.16))
    total = np.float32(0.66 + 0.04 * a.fat) * depth
    total += np.float32(0.10) * layers.body * np.clip((y - 0.2) / 0.5, 0, 1)
    filled = 1 - np.float32(0.05) * canvas.cloud(rng, 9) - np.float32(0.02 + 0.006 * q.texture) * np.abs(canvas.cloud(rng, 44))
    if haze:
        centre = canvas.soften(layers.hila, 0.20)
        filled -= np.float32(haze) * (0.045 + 0.5 * centre + 0.05 * np.abs(canvas.cloud(rng, 26)) + 0.05 * np.abs(canvas.cloud(rng, 44)))
    if shapes.patch is not None:
        filled *= 1 - np.float32(strength * (0.20 + 0.22 * min(by["consolidation"], 1.0))) * shapes.patch
    if shapes.free_air is not None:
        filled += np.float32(0.15 * strength) * shapes.free_air
    if shapes.fluid is not None:
        filled *= 1 - np.float32(min(1.0, 0.95 * strength)) * canvas.soften(shapes.fluid, 0.012)
    # The heart lies where air would be: it takes air away instead of adding to what is full already.
    filled *= 1 - 0.34 * layers.middle - 0.46 * layers.heart * canvas.soften(layers.heart, 0.07)
    air = lungs * (0.30 + 0.70 * canvas.soften(lungs, 0.11))
    total -= np.float32(0.50) * air * filled.clip(0, 1.3)
    branches = _vessels(canvas, layers, a.vessels, haze) * inside * (1 - 0.75 * layers.middle)
    if shapes.free_air is not None:
        branches *= 1 - np.float32(min(1.0, strength)) * shapes.free_air
    total += branches
    if shapes.pleura is not None:
        total += np.float32(0.075 * strength) * shapes.pleura
    if shapes.knot is not None:
        total += np.float32(0.125 * strength * min(1.2, 0.4 + by["nodule"])) * shapes.knot
    total += (np.float32(1 + 0.12 * a.ribs) * layers.bones + layers.other) * layers.body
    # Scatter: a part of the beam arrives where it was not sent; and no detector is perfectly sharp.
    veil = np.float32(0.10 + 0.03 * q.scatter)
    return np.maximum(canvas.soften((1 - veil) * total + veil * canvas.soften(total, 0.35), 0.004), 0)


def _vessels(canvas: Canvas, layers: Layers, crowded: float, haze: float) -> Field:
    found = layers.vessels
    drawn = 0.9 * canvas.stroke(found.thick, 0.028) + 0.8 * canvas.stroke(found.middle, 0.019) + 0.6 * canvas.stroke(found.thin, 0.011)
    drawn = canvas.soften(drawn, 0.005 + 0.007 * min(haze, 1.5)) + 0.9 * layers.hila
    return np.float32(0.085 * (1 + 0.15 * crowded) * (1 + 0.5 * haze)) * drawn


def _masks(study: Study, layers: Layers, shapes: Shapes) -> dict[str, NDArray[np.bool_]]:
    """Return what is where: each lung, the heart, and every finding above its threshold."""
    found = {f"lung_{side}": mask for side, mask in layers.lungs.items()} | {"heart": layers.heart}
    lungs = np.maximum(layers.lungs["left"], layers.lungs["right"])
    fields = (shapes.fluid, layers.heart, shapes.patch, lungs, shapes.free_air, shapes.knot)
    for name, field, present in zip(FINDINGS, fields, study.truth, strict=True):
        if present and field is not None:
            found[name] = field
    return {name: field > SHOWN for name, field in found.items()}
