"""Where the main network looks for a prompt, over the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

#: How many prompts of an image are shown, and the side that a tile is drawn at, at least.
SHOWN, _SIDE, _BAND = 3, 160, 20


def overlay(image: NDArray[np.uint8], looks: NDArray[np.float32], titles: Sequence[str]) -> NDArray[np.uint8]:
    """Draw an image (h, w) and beside it where each prompt looks, (P, side, side), in red, each scaled to its own largest: (H, W, 3)."""
    side = max(_SIDE, *image.shape)
    grey = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    tiles = [_titled(np.repeat(grey[:, :, None], 3, axis=2), "image")]
    for look, title in zip(looks, titles, strict=True):
        heat = cv2.resize(look.astype(np.float32) / max(float(look.max()), 1e-12), (side, side), interpolation=cv2.INTER_LINEAR)[:, :, None]
        red = np.array([255.0, 40.0, 20.0], np.float32)
        mixed = grey[:, :, None] * (1 - 0.6 * heat) + red * (0.6 * heat)
        tiles.append(_titled(np.clip(mixed, 0, 255).astype(np.uint8), title))
    return np.concatenate(tiles, axis=1)


def _titled(tile: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    band = np.full((_BAND, tile.shape[1], 3), 255, np.uint8)
    cv2.putText(band, title[:28], (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (40, 40, 40), 1, cv2.LINE_AA)
    return np.concatenate([band, tile], axis=0)
