"""Distances between the borders of two masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

#: Share of a border's pixels that are nearer to the other border.
_SHARE = 95.0


def hd95(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the 95 % Hausdorff distance of two masks (h, w) in pixels, NaN where one is empty.

    The larger of two 95th percentiles: of the distances of each border pixel of one mask to the nearest of the other, and the other way
    round (Metrics Reloaded, Maier-Hein et al. 2024; percentiles are interpolated linearly). A border pixel is one inside whose neighbour
    above, below, left or right is outside, the margin of the image included; distances are between centres of pixels.
    """
    if not one.any() or not other.any():
        return float("nan")
    # Nothing outside of both matters, and full images are large.
    rows, columns = (np.flatnonzero((one | other).any(axis=axis)) for axis in (1, 0))
    here = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    borders = [np.argwhere(border(np.ascontiguousarray(mask[here] > 0).view(np.uint8))) for mask in (one, other)]
    return max(_directed(borders[0], borders[1]), _directed(borders[1], borders[0]))


def border(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the border of a mask (h, w) of 0 and 1: its pixels with a neighbour, of four, outside of it."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(mask, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (mask > 0) & (inside == 0)


def _directed(here: NDArray[np.intp], there: NDArray[np.intp]) -> float:
    """Return the 95th percentile of the distances of pixels `here` (n, 2) to the nearest of pixels `there` (m, 2).

    A tree computes them exactly, where OpenCV's distance transform (float32, by instructions that differ by machine) is off in the eighth
    digit, and not by the same everywhere.
    """
    tree = KDTree(there, balanced_tree=False, compact_nodes=False)
    return float(np.percentile(tree.query(here)[0], _SHARE))
