"""Views whose contrast is brought out, each by itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

import cv2
import numpy as np

from trainers.data.workers import spread

Contrast: TypeAlias = Literal["none", "factor", "autocontrast", "clahe"]
#: Limit and tiles of OpenCV's own example.
_CLIP, _TILES = 2.0, (8, 8)


def brought_out(views: np.ndarray, how: Contrast, factor: float = 1.0) -> np.ndarray:
    """Return views, uint8 (n, 1, h, w), with more contrast.

    A factor on the distance from the view's mean; its levels stretched to 0 to 255; or histograms equalised tile by tile with a limit
    (CLAHE, Zuiderveld 1994).
    """
    if how == "none":
        return views
    found = np.empty_like(views)

    def draw(part: slice) -> None:
        for view, out in zip(views[part, 0], found[part, 0], strict=True):
            if how == "clahe":
                # One object a thread of work: it keeps buffers.
                out[:] = cv2.createCLAHE(clipLimit=_CLIP, tileGridSize=_TILES).apply(view)
            else:
                cv2.LUT(view, _table(view, how, factor), dst=out)

    spread(draw, len(views))
    return found


def _table(view: np.ndarray, how: Contrast, factor: float) -> np.ndarray:
    """Return what each of 256 levels becomes."""
    levels = np.arange(256, dtype=np.float64)
    if how == "factor":
        levels = view.mean() + factor * (levels - view.mean())
    else:
        low, high = float(view.min()), float(view.max())
        levels = (levels - low) * (255 / (high - low)) if high > low else levels
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
