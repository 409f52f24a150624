"""What the public code of AG-CNN (Ien001/AG-CNN 5e13e95) cuts its patches from, as it does it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainers.parts.attention import cut_out

#: Where its centre crop begins and ends, as shares of a side.
_FROM, _TO = 0.334, 0.667


def tile(normal: Tensor) -> Tensor:
    """Return the middle of normalised images (B, 3, px, px) that are taken for (B, px, px, 3) as they lie in memory, as (B, 3, h, w).

    It is a thumbnail of the whole image in every third row, whose three channels are neighbouring columns of the second one.
    """
    px = normal.shape[2]
    low, high = int(px * _FROM), int(px * _TO)
    laid_out = normal.contiguous().reshape(len(normal), px, px, 3)[:, low:high, low:high]
    return laid_out.permute(0, 3, 1, 2)


def wrapped(values: Tensor) -> Tensor:
    """Return 256 times the values as bytes, in float32: cut off towards 0, and modulo 256, as x86 casts."""
    return (values * 256).trunc().remainder(256)


def wrapped_mosaic(normal: Tensor, boxes: Tensor, px: int) -> Tensor:
    """Return patches (N, 3, px, px) in levels from 0 to 255: the tile enlarged to px, wrapped, cut at boxes (N, 4), resized to px / 0.875,
    of which the middle is left.
    """
    side = int(px / 0.875 + 1e-9)
    enlarged = functional.interpolate(tile(normal), size=(px, px), mode="bilinear", align_corners=False)
    resized = cut_out(wrapped(enlarged), boxes, side).round()
    start = round((side - px) / 2)
    return resized[:, :, start : start + px, start : start + px]
