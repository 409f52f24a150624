"""The six findings as shapes in a frontal chest: what each adds or takes away, from the severity and the patient's own anatomy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.data.phantom.canvas import Canvas, Field, Points, ellipse, smooth
from trainers.data.phantom.frontal import SIDES, Lung
from trainers.data.phantom.patients import Lesion
from trainers.data.phantom.sources import FINDINGS

#: What is just visible: below this margin a finding leaves no trace.
TRACE = -0.30


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What the findings of one view do to the picture, as fields in [0, 1] of the canvas."""

    fluid: Field | None = None
    patch: Field | None = None
    haze: float = 0.0
    free_air: Field | None = None
    pleura: Field | None = None
    knot: Field | None = None


def amount(lesion: Lesion) -> float:
    """Return how much of a finding there is: 0 without a trace, about 0.25 at the threshold, 1 in a clear case, at most 1.6."""
    return float(np.clip((lesion.margin - TRACE) / 1.2, 0, 1.6))


def heart_growth(lesion: Lesion) -> float:
    """Return the factor by which the heart is wider."""
    return 1 + 0.36 * amount(lesion)


def sides_of(lesion: Lesion) -> tuple[str, ...]:
    """Return the lungs that a finding is in."""
    return ("right", "left") if lesion.side == "both" else (lesion.side,)


def one_side(lesion: Lesion) -> str:
    """Return the lung of a finding that is in one only."""
    return ("right" if lesion.place[10] < 0.5 else "left") if lesion.side == "both" else lesion.side


def frontal_shapes(canvas: Canvas, lungs: dict[str, Lung], masks: dict[str, Field], lesions: tuple[Lesion, ...]) -> Shapes:
    """Draw the findings of a frontal view into the lungs `masks` (by side, 1 inside)."""
    by = dict(zip(FINDINGS, lesions, strict=True))
    effusion, patch, edema, air, nodule = (by[name] for name in ("effusion", "consolidation", "edema", "pneumothorax", "nodule"))
    free, pleura = _pneumothorax(canvas, lungs, masks, air)
    return Shapes(
        fluid=_effusion(canvas, lungs, masks, effusion),
        patch=_consolidation(canvas, lungs, masks, patch),
        haze=amount(edema),
        free_air=free,
        pleura=pleura,
        knot=_nodule(canvas, lungs, nodule),
    )


def _effusion(canvas: Canvas, lungs: dict[str, Lung], masks: dict[str, Field], lesion: Lesion) -> Field | None:
    much = amount(lesion)
    if much == 0:
        return None
    total = np.zeros_like(masks["left"])
    for index, side in enumerate(sides_of(lesion)):
        lung = lungs[side]
        here = much * (1.0 if index == 0 else 0.45 + 0.5 * lesion.place[1])
        total = np.maximum(total, canvas.fill(_meniscus(lung, here, lesion.place[2])) * masks[side])
    return total


def _meniscus(lung: Lung, much: float, steep: float) -> Points:
    """Fluid climbs at the chest wall and falls towards the mediastinum: the upper edge is concave."""
    wall = float(lung.outer(np.array(lung.angle)))
    high = lung.angle - 0.07 - 0.26 * much
    low = lung.dome + 0.13 - 0.22 * much
    t = np.linspace(0, 1, 24)
    x = 0.07 + (wall + 0.06 - 0.07) * t
    y = np.minimum(low, lung.angle) + (high - low) * t ** (2.2 + 2.5 * steep)
    top = lung.place(x, y)
    corners = lung.place(np.array([wall + 0.06, 0.07]), np.array([lung.angle + 0.3, lung.angle + 0.3]))
    return np.concatenate([top, corners])


def _consolidation(canvas: Canvas, lungs: dict[str, Lung], masks: dict[str, Field], lesion: Lesion) -> Field | None:
    much = amount(lesion)
    if much == 0:
        return None
    side = one_side(lesion)
    x, y = lungs[side].inside(0.2 + 0.65 * lesion.place[1], 0.12 + 0.75 * lesion.place[2])
    size = (0.16 + 0.06 * lesion.place[3]) * (0.75 + 0.25 * min(much, 1.3))
    angle = 2 * np.pi * np.arange(9) / 9
    radius = size * (0.7 + 0.6 * np.array([*lesion.place[4:11], lesion.place[2], lesion.place[4]]))
    outline = smooth(np.stack([x + radius * np.cos(angle), y + 0.85 * radius * np.sin(angle)], 1).tolist(), 54)
    return canvas.soften(canvas.fill(outline), 0.022) * masks[side]


def _pneumothorax(
    canvas: Canvas, lungs: dict[str, Lung], masks: dict[str, Field], lesion: Lesion
) -> tuple[Field | None, Field | None]:
    much = amount(lesion)
    if much == 0:
        return None, None
    side = one_side(lesion)
    lung = lungs[side]
    reach = lung.apex + (0.45 + 0.45 * lesion.place[1] + 0.25 * much) * (lung.angle - lung.apex)
    y = np.linspace(lung.apex, min(reach, lung.angle), 24)
    down = (y - lung.apex) / (reach - lung.apex)
    gap = (0.035 + 0.12 * much) * (1 - down**2) * (0.8 + 0.4 * lesion.place[2])
    fall = 0.03 + 0.13 * much
    edge = np.maximum(lung.outer(y) - gap, lung.inner(y))
    line = lung.place(edge, y + fall * (1 - down) ** 1.5)
    crown = lung.place(np.linspace(0.12, edge[0], 6)[:-1], np.full(5, lung.apex + fall + 0.02))
    line = np.concatenate([crown, line])
    outside = lung.place(np.array([lung.wide + 0.2, lung.wide + 0.2, 0.10]), np.array([y[-1], lung.apex - 0.2, lung.apex - 0.2]))
    free = canvas.fill(np.concatenate([line, outside])) * masks[side]
    return free, canvas.stroke([line], 0.014) * masks[side]


def _nodule(canvas: Canvas, lungs: dict[str, Lung], lesion: Lesion) -> Field | None:
    much = amount(lesion)
    if much == 0:
        return None
    lung = lungs[one_side(lesion)]
    x, y = lung.inside(0.15 + 0.75 * lesion.place[1], 0.08 + 0.84 * lesion.place[2])
    size = (0.055 + 0.045 * lesion.place[3]) * (0.8 + 0.3 * min(much, 1.2))
    squeeze = 0.85 + 0.3 * lesion.place[4]
    return canvas.soften(canvas.fill(ellipse(x, y, size * squeeze, size / squeeze, 3.1 * lesion.place[5])), 0.10 * size)


def lesion_side(lesion: Lesion, finding: str) -> str:
    """Return the side that a report names: right, left, both, or none for what has no side."""
    if finding in ("cardiomegaly", "edema"):
        return "none"
    return lesion.side if finding == "effusion" else one_side(lesion)


def is_side(name: str) -> bool:
    """Tell whether a word names one lung."""
    return name in SIDES
