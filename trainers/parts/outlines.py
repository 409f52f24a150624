"""Outlines of masks over an image, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

#: Red, green, blue; told apart by people who see two colours too (Okabe and Ito 2008).
TRUE, DRAWN = (86, 180, 233), (230, 159, 0)
#: What the two colours are called in a caption.
LEGEND = "true outline blue, drawn outline orange"
#: The shorter side of a picture has at least so many pixels.
_SIDE = 384


def overlay(
    image: NDArray[np.uint8], true: Sequence[NDArray[np.float32]], drawn: Sequence[NDArray[np.float32]], aspect: float
) -> NDArray[np.uint8]:
    """Return a square image (px, px) at its own width over height, `aspect`, with outlines over it, uint8 (h, w, 3).

    Masks (px, px) are levels that are above 0 inside, such as logits, and are brought to the picture's size smoothly.
    """
    px = image.shape[0]
    side = px * -(-_SIDE // px)
    size = (max(1, round(side * max(aspect, 1.0))), max(1, round(side / min(aspect, 1.0))))
    picture = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)
    for masks, colour, width in ((true, TRUE, 2), (drawn, DRAWN, 2)):
        for mask in masks:
            inside = (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_CUBIC) > 0).astype(np.uint8)
            contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, contours, -1, colour, width, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)
