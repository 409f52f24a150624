"""Whether a gate tells sources apart: the gates of images, measured and drawn."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

_CELL_W, _CELL_H, _LEFT, _TOP = 96, 40, 200, 48
_WHITE, _INK = 255, 40


def separation(gates: Mapping[str, NDArray[np.float32]]) -> float | None:
    """Return the share of images that are of the source whose mean gate is nearest, every source weighing the same; 1 / sources is chance.

    Means are of the other half of a source's images (every second one), so that a gate that is noise is at chance. None for fewer than two
    sources of at least two images.
    """
    known = {source: one.astype(np.float64) for source, one in gates.items() if len(one) > 1}
    if len(known) < 2:
        return None
    shares: list[float] = []
    for index, source in enumerate(known):
        right = total = 0
        for half in (0, 1):
            centres = np.stack([one[half::2].mean(0) for one in known.values()])
            mine = known[source][1 - half :: 2]
            distances = ((mine[:, None] - centres[None]) ** 2).sum(2)
            # A tie of gates that are all alike is no hit: it counts as chance.
            best = distances.min(1, keepdims=True)
            ties = distances <= best
            right += float((ties[:, index] / ties.sum(1)).sum())
            total += len(mine)
        shares.append(right / total)
    return float(np.mean(shares))


def figure(gates: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Draw the mean weight of each expert (columns) on each source (rows), the darker the larger, with its value, uint8 (h, w)."""
    means = {source: one.mean(0) for source, one in gates.items()}
    experts = len(next(iter(means.values())))
    picture = np.full((_TOP + _CELL_H * len(means), _LEFT + _CELL_W * experts), _WHITE, np.uint8)
    for column in range(experts):
        _write(picture, f"expert {column + 1}", _LEFT + column * _CELL_W + 8, _TOP - 14, _INK)
    for row, (source, weights) in enumerate(means.items()):
        top = _TOP + row * _CELL_H
        _write(picture, source[:24], 6, top + 26, _INK)
        for column, weight in enumerate(weights.tolist()):
            left = _LEFT + column * _CELL_W
            shade = round(_WHITE * (1 - 0.85 * min(max(weight, 0.0), 1.0)))
            picture[top + 1 : top + _CELL_H - 1, left + 1 : left + _CELL_W - 1] = shade
            _write(picture, f"{weight:.3f}", left + 24, top + 26, _WHITE if shade < 120 else _INK)
    return picture


def _write(picture: NDArray[np.uint8], text: str, x: int, y: int, ink: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
