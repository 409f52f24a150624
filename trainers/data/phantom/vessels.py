"""The vessels of the lungs: a tree a lung, from the hilum outwards, thinner at every step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainers.data.phantom.canvas import Points

_TRUNKS, _TWIGS, _STEPS = 9, 5, 9
_T = np.linspace(0, 1, _STEPS)
_S = np.linspace(0, 1, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vessels:
    """Lines (k, n, 2) of three calibres."""

    thick: Points
    middle: Points
    thin: Points


def tree(rng: np.random.Generator, *, x: float, y: float, towards: float, spread: float, reach: float) -> Vessels:
    """Grow a tree from (x, y) around the direction `towards` (1 to the right, -1 to the left, 0 to both sides)."""
    angle = np.linspace(-spread, spread, _TRUNKS) + 0.12 * rng.standard_normal(_TRUNKS)
    bend = 0.40 * rng.standard_normal(_TRUNKS)
    length = reach * (0.62 + 0.30 * rng.random(_TRUNKS)) * (0.75 + 0.40 * np.abs(np.sin(angle)))
    # Trunks leave the hilum upwards or downwards and turn outwards on their way.
    way = angle[:, None] * (1.25 - 0.45 * _T) + bend[:, None] * _T
    sign = np.where(np.arange(_TRUNKS) % 2 == 0, 1.0, -1.0) if towards == 0 else np.full(_TRUNKS, towards)
    along = np.cumsum(np.cos(way), 1) * (length / _STEPS)[:, None]
    down = np.cumsum(np.sin(way), 1) * (length / _STEPS)[:, None]
    trunks = np.stack([x + sign[:, None] * along, y + down], axis=-1)
    start = rng.integers(2, _STEPS, (_TRUNKS, _TWIGS))
    fork = (0.45 + 0.5 * rng.random((_TRUNKS, _TWIGS))) * np.where(np.arange(_TWIGS) % 2 == 0, 1.0, -1.0)
    size = reach * (0.18 + 0.30 * rng.random((_TRUNKS, _TWIGS)))
    row = np.arange(_TRUNKS)[:, None]
    go = (way[row, start] + fork)[..., None] * (1 - 0.3 * _S) + 0.15 * rng.standard_normal((_TRUNKS, _TWIGS, 1)) * _S
    step = size[..., None] * _S
    twigs = trunks[row, start][:, :, None, :] + np.stack([sign[:, None, None] * step * np.cos(go), step * np.sin(go)], axis=-1)
    return Vessels(thick=trunks[:, :4], middle=trunks[:, 3:7], thin=np.concatenate([trunks[:, 5:9], twigs.reshape(-1, 4, 2)]))


def joined(trees: list[Vessels]) -> Vessels:
    """Return several trees as one."""
    return Vessels(
        thick=np.concatenate([tree.thick for tree in trees]),
        middle=np.concatenate([tree.middle for tree in trees]),
        thin=np.concatenate([tree.thin for tree in trees]),
    )
