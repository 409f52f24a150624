"""What an image looks like, in 256 bits and in a thumbnail: the same for copies of other size, format, depth or window.

Both rest on ranks of grey values in a thumbnail of 64 x 64 areas, so that whatever brightens or windows an image alike everywhere changes
nothing. The bits are the signs of its 256 slowest cosine waves about their median (a perceptual hash with 64 bits finds all chests alike).
"""

from __future__ import annotations

import cv2
import numpy as np

#: Bumped when the same image gives other bits: remembered fingerprints are then made again.
FINGERPRINT_VERSION = 1
BITS = 256
#: Two images with at most so many different bits are looked at again, as thumbnails.
MOST_DIFFERENT_BITS = 40
#: Rank correlation of two thumbnails from which on two images are the same.
LEAST_CORRELATION = 0.97
_SIDE, _WAVES = 64, 16
#: A spread of grey values below which an image shows nothing, and all such images would be alike.
_FLAT = 1.0


def fingerprint(image: np.ndarray) -> np.ndarray | None:
    """Return the 256 bits of an image (height, width), uint64 (4,); None for one that is of one grey."""
    ranks = thumbnail(image)
    if ranks is None:
        return None
    waves = cv2.dct(ranks)[:_WAVES, :_WAVES].ravel()
    return np.packbits(waves > np.median(waves)).view(np.uint64)


def thumbnail(image: np.ndarray) -> np.ndarray | None:
    """Return ranks of the grey values of 64 x 64 areas, float32 (64, 64), mean 0 and length 1; None for an image of one grey."""
    from scipy.stats import rankdata

    areas = cv2.resize(image.astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    if areas.std() < _FLAT:
        return None
    ranks = rankdata(areas.ravel())
    ranks -= ranks.mean()
    return (ranks / np.linalg.norm(ranks)).astype(np.float32).reshape(_SIDE, _SIDE)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation (Spearman) of two images' thumbnails, -1 to 1."""
    one, other = thumbnail(first), thumbnail(second)
    return 0.0 if one is None or other is None else float(np.vdot(one, other))
