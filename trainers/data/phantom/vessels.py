"""The vessels of the lungs: a tree a lung, from the hilum outwards, thinner at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainers.data.phantom.canvas import Points

_TRUNKS, _TWIGS, _STEPS = 9, 5, 9
_T = np.linspace(0, 1, _STEPS)
_S = np.linspace(0, 1, 4)
_TURNS = np.array([1.0, -1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Vessels:
    """Lines (k, n, 2) of three calibres."""

    thick: Points
    middle: Points
    thin: Points


def trees(rng: np.random.Generator, roots: Sequence[tuple[float, float, float]], *, spread: float, reach: float) -> Vessels:
    """Grow a tree from each root (x, y, towards): to the right (1), to the left (-1), or to both sides (0)."""
    origin = np.array(roots)[:, :2].repeat(_TRUNKS, axis=0)
    count = len(origin)
    angle = np.tile(np.linspace(-spread, spread, _TRUNKS), len(roots)) + 0.12 * rng.standard_normal(count)
    bend = 0.40 * rng.standard_normal(count)
    length = reach / _STEPS * (0.62 + 0.30 * rng.random(count)) * (0.75 + 0.40 * np.abs(np.sin(angle)))
    towards = np.array([root[2] for root in roots]).repeat(_TRUNKS)
    sign = np.where(towards == 0, _TURNS[np.arange(count) % 2], towards)[:, None]
    # Trunks leave the hilum upwards or downwards and turn outwards on their way.
    way = angle[:, None] * (1.25 - 0.45 * _T) + bend[:, None] * _T
    steps = np.stack([sign * np.cos(way), np.sin(way)], axis=-1) * length[:, None, None]
    trunks = origin[:, None, :] + np.cumsum(steps, axis=1)
    start = rng.integers(2, _STEPS, (count, _TWIGS))
    fork = (0.45 + 0.5 * rng.random((count, _TWIGS))) * _TURNS[np.arange(_TWIGS) % 2]
    size = reach * (0.18 + 0.30 * rng.random((count, _TWIGS, 1)))
    row = np.arange(count)[:, None]
    go = (way[row, start] + fork)[..., None] * (1 - 0.3 * _S) + 0.15 * rng.standard_normal((count, _TWIGS, 1)) * _S
    grown = np.stack([sign[:, None] * np.cos(go), np.sin(go)], axis=-1) * (size * _S)[..., None]
    twigs = trunks[row, start][:, :, None, :] + grown
    return Vessels(thick=trunks[:, :4], middle=trunks[:, 3:7], thin=np.concatenate([trunks[:, 5:9], twigs.reshape(-1, 4, 2)]))
