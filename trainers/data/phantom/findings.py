"""The six findings as shapes in a chest: where each lies and how large it is, from the severity and the patient's own anatomy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainers.data.phantom.canvas import Canvas, Field, Points, ellipse, smooth
from trainers.data.phantom.frontal import Frontal, Lung
from trainers.data.phantom.lateral import Lateral, SideLung
from trainers.data.phantom.patients import Lesion
from trainers.data.phantom.sources import FINDINGS

#: Below this margin a finding leaves no trace in the picture.
TRACE = -0.30
#: Where a field is above this, a mask has the finding.
SHOWN = 0.5
_TRIES, _CLOSE = 12, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What the findings of one view do to the picture: fields in [0, 1] of the canvas, None where there is nothing."""

    fluid: Field | None
    patch: Field | None
    free_air: Field | None
    pleura: Field | None
    knot: Field | None


def amount(lesion: Lesion) -> float:
    """Return how much of a finding there is: 0 without a trace, 0.25 at the threshold, 1 in a clear case, at most 1.6."""
    return float(np.clip((lesion.margin - TRACE) / 1.2, 0, 1.6))


def volume(lesion: Lesion) -> float:
    """Return how much fluid an effusion is: what a reader calls an effusion is more than a trace, so it grows fast at the threshold."""
    return float(np.clip((lesion.margin + 0.15) / 0.3, 0, 1) * (0.6 + 0.55 * np.clip(lesion.margin, 0, 1.6)))


def heart_growth(lesion: Lesion, strength: float) -> float:
    """Return the factor by which the heart is wider."""
    return 1 + 0.36 * strength * amount(lesion)


def sides_of(lesion: Lesion) -> tuple[str, ...]:
    """Return the lungs that an effusion is in."""
    return ("right", "left") if lesion.side == "both" else (lesion.side,)


def side_of(lesion: Lesion) -> str:
    """Return the lung of a finding that is in one only."""
    return ("right" if lesion.place[10] < 0.5 else "left") if lesion.side == "both" else lesion.side


def side_named(finding: str, lesion: Lesion) -> str:
    """Return the side that a report names: right, left, both, or none for what has no side."""
    if finding in ("cardiomegaly", "edema"):
        return "none"
    return lesion.side if finding == "effusion" else side_of(lesion)


def shapes_in(canvas: Canvas, chest: Frontal | Lateral, masks: dict[str, Field], lesions: tuple[Lesion, ...]) -> Shapes:
    """Draw the findings of one view into the lungs `masks` (by side, 1 inside)."""
    by = dict(zip(FINDINGS, lesions, strict=True))
    free, pleura = _free_air(canvas, chest, masks, by["pneumothorax"])
    return Shapes(
        fluid=_fluid(canvas, chest, masks, by["effusion"]),
        patch=_patch(canvas, chest, masks, by["consolidation"]),
        free_air=free,
        pleura=pleura,
        knot=_knot(canvas, chest, masks, by["nodule"]),
    )


def _where(chest: Frontal | Lateral, side: str, across: float, down: float, depth: float) -> tuple[float, float]:
    """Return where a point of a lung lies in this view; both views share its level."""
    if isinstance(chest, Frontal):
        return chest.lungs[side].inside(across, down)
    _, level = chest.levels[side].inside(across, down)
    return chest.lungs[side].inside(depth, level)


def _fluid(canvas: Canvas, chest: Frontal | Lateral, masks: dict[str, Field], lesion: Lesion) -> Field | None:
    much = volume(lesion)
    if much == 0:
        return None
    total = np.zeros_like(masks["left"])
    for index, side in enumerate(sides_of(lesion)):
        here = much * (1.0 if index == 0 else 0.45 + 0.5 * lesion.place[1])
        lung = chest.lungs[side]
        surface = _meniscus(lung, here, lesion.place[2]) if isinstance(lung, Lung) else _side_meniscus(lung, here, lesion.place[2])
        total = np.maximum(total, canvas.fill(surface) * masks[side])
    return total


def _meniscus(lung: Lung, much: float, steep: float) -> Points:
    """Fluid climbs at the chest wall and falls towards the mediastinum: the upper edge is concave."""
    wall = float(lung.outer(np.array(lung.angle))) + 0.06
    high = lung.angle - 0.10 - 0.60 * much
    low = min(lung.dome + 0.16 - 0.36 * much, lung.angle)
    t = np.linspace(0, 1, 24)
    top = lung.place(0.07 + (wall - 0.07) * t, low + (high - low) * t ** (2.2 + 2.5 * steep))
    return np.concatenate([top, lung.place(np.array([wall, 0.07]), lung.angle + 0.3)])


def _side_meniscus(lung: SideLung, much: float, steep: float) -> Points:
    """From the side fluid lies in the posterior recess and climbs along the back."""
    back = lung.deep * 0.66
    high = lung.angle - 0.14 - 0.60 * much
    low = lung.dome + 0.20 - 0.36 * much
    t = np.linspace(0, 1, 24)
    x = -0.55 * lung.deep + (back + 0.55 * lung.deep) * t
    y = low + (high - low) * t ** (2.2 + 2.5 * steep)
    return np.concatenate([np.stack([x, y], 1), [[back, lung.angle + 0.3], [x[0], lung.angle + 0.3]]])


def _patch(canvas: Canvas, chest: Frontal | Lateral, masks: dict[str, Field], lesion: Lesion) -> Field | None:
    much = amount(lesion)
    if much == 0:
        return None
    side, place = side_of(lesion), lesion.place
    x, y = _where(chest, side, 0.2 + 0.65 * place[1], 0.12 + 0.75 * place[2], place[9])
    size = (0.15 + 0.05 * place[3]) * (0.75 + 0.25 * min(much, 1.3))
    angle = 2 * np.pi * np.arange(9) / 9
    radius = size * (0.7 + 0.6 * np.array([*place[4:11], place[2], place[1]]))

    def drawn(factor: float) -> Field:
        reach = factor * radius
        outline = smooth(np.stack([x + reach * np.cos(angle), y + 0.85 * reach * np.sin(angle)], 1), 54)
        return canvas.soften(canvas.fill(outline), 0.022) * masks[side]

    return sized(drawn, lesion.area)


def _free_air(canvas: Canvas, chest: Frontal | Lateral, masks: dict[str, Field], lesion: Lesion) -> tuple[Field | None, Field | None]:
    """Return the air outside a collapsed lung and the pleural line that bounds it."""
    much = amount(lesion)
    if much == 0:
        return None, None
    side = side_of(lesion)
    lung = chest.lungs[side]
    # Small ones hide behind the ribs and the clavicle; large ones are plain.
    retreat = 0.005 + 0.20 * max(0.0, much - 0.30)
    reach = lung.apex + (0.45 + 0.45 * lesion.place[1] + 0.2 * much) * (lung.angle - lung.apex)
    y = np.linspace(lung.apex, min(reach, lung.angle), 24)
    left = 1 - (y - lung.apex) / (reach - lung.apex)
    gap = retreat * (1 - (1 - left) ** 2) * (0.8 + 0.4 * lesion.place[2])
    fall = retreat * left**1.5
    if isinstance(lung, Lung):
        edge = np.maximum(lung.outer(y) - gap, lung.inner(y))
        border = np.concatenate([lung.place(np.linspace(0.12, edge[0], 6)[:-1], lung.apex + fall[0] + 0.02), lung.place(edge, y + fall)])
        corners = lung.place(np.array([lung.wide + 0.2, lung.wide + 0.2, 0.10]), np.array([y[-1], lung.apex - 0.2, lung.apex - 0.2]))
    else:
        border = np.stack([np.minimum(lung.front(y) + gap, lung.back(y)), y + fall], 1)
        corners = np.array(
            [[-1.0, y[-1]], [-1.0, lung.apex - 0.2], [lung.deep * 0.5, lung.apex - 0.2], [lung.deep * 0.5, lung.apex + fall[0]]]
        )
    free = canvas.fill(np.concatenate([border, corners])) * masks[side]
    return free, canvas.stroke([border], 0.014) * masks[side]


def _knot(canvas: Canvas, chest: Frontal | Lateral, masks: dict[str, Field], lesion: Lesion) -> Field | None:
    much = amount(lesion)
    if much == 0:
        return None
    side, place = side_of(lesion), lesion.place
    x, y = _where(chest, side, 0.15 + 0.75 * place[1], 0.08 + 0.76 * place[2], place[6])
    size = (0.13 + 0.05 * place[3]) * (0.85 + 0.2 * min(much, 1.2))
    squeeze = 0.85 + 0.3 * place[4]

    def drawn(factor: float) -> Field:
        disc = canvas.fill(ellipse(x, y, factor * size * squeeze, factor * size / squeeze, 3.1 * place[5]))
        return canvas.soften(disc, 0.15 * factor * size) * np.minimum(1, masks[side] + 0.3)

    return sized(drawn, lesion.area)


def sized(drawn: Callable[[float], Field], area: float) -> Field:
    """Return a shape as large as it comes, or with `area` above 0 drawn larger or smaller until its mask fills that share of the picture.

    What a lung's border cuts off is made up for inside the lung. The area grows at most with the square of the factor, so that each try
    comes nearer.
    """
    factor, field = 1.0, drawn(1.0)
    for _ in range(_TRIES if area else 0):
        ratio = area / max(float((field > SHOWN).mean()), area / 4)
        if abs(ratio - 1) < _CLOSE:
            break
        factor *= float(np.sqrt(ratio))
        field = drawn(factor)
    return field
