"""Where a network looks: heat maps of its feature maps, masks, and the box of what is cut out (Guan et al. 2018, AG-CNN, section III-B).

All of it in batch and on the device of the maps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor
from torch.nn import functional

from trainers.parts.regions import Connectivity, largest_boxes
from trainers.parts.runs import Enlarged, Runs, runs_of

Statistic: TypeAlias = Literal["max", "l1", "l2", "sum"]
Thresholding: TypeAlias = Literal["fixed", "otsu"]
Upsampled: TypeAlias = Literal["heat", "scaled", "levels", "mask"]
_LEVELS = 256
#: Channels.
_TOGETHER = 64
#: Relative, of a map in float32.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """How a box is found on feature maps."""

    statistic: Statistic = "max"
    #: What is brought to the size of the input, bilinearly: the heat map, which is then scaled; the scaled map; its 256 levels, in bytes;
    #: or nothing before the mask, which is enlarged by nearest pixel.
    upsampled: Upsampled = "heat"
    thresholding: Thresholding = "fixed"
    #: Of the scaled map in [0, 1]: what is above it is in the mask. Not read with otsu.
    threshold: float = 0.7
    connectivity: Connectivity = 8
    #: Whether the last row and column of a region are in its box; the released code leaves them out.
    inclusive: bool = True
    #: Share of the box's sides that it is widened by on each side.
    margin: float = 0.0
    #: A box has at least this share of the input's sides.
    min_side: float = 0.0
    #: A box for each label, of the maps weighted by that label's weights (class activation maps), in place of one.
    per_class: bool = False

    def numbers(self) -> Tensor:
        """Return the values as float64 (9,), so that weights can carry them: choices as their place among what there is."""
        return torch.tensor([_number(one.name, getattr(self, one.name)) for one in fields(self)], dtype=torch.float64)


_CHOICES = {
    "statistic": get_args(Statistic),
    "upsampled": get_args(Upsampled),
    "thresholding": get_args(Thresholding),
}
_KINDS = {"connectivity": int, "inclusive": bool, "per_class": bool}


def _number(name: str, value: object) -> float:
    return float(_CHOICES[name].index(value)) if name in _CHOICES else float(value)  # pyright: ignore[reportArgumentType]


def attention_from(numbers: Tensor) -> Attention:
    """Return what `Attention.numbers` wrote down."""
    values = dict(zip([one.name for one in fields(Attention)], numbers.tolist(), strict=True))
    chosen = {name: choices[round(values[name])] for name, choices in _CHOICES.items()}
    return Attention(**{**values, **chosen, **{name: kind(values[name]) for name, kind in _KINDS.items()}})


def heat(maps: Tensor, statistic: Statistic) -> Tensor:
    """Return the heat map (B, h, w) float32 of feature maps (B, K, h, w).

    Max is max_k |f_k|, L1 (1/K) sum_k |f_k| and L2 (1/K) sqrt(sum_k f_k^2), as in the paper; the sum over k is that of the public code.
    """
    maps = maps.float()
    if statistic == "max":
        return _largest(maps)
    if statistic == "l1":
        return maps.abs().mean(1)
    return maps.square().sum(1).sqrt() / maps.shape[1] if statistic == "l2" else maps.sum(1)


def _largest(maps: Tensor) -> Tensor:
    """Return max_k |f_k| of maps (B, K, h, w), some channels at a time: what is in a processor's cache is used there, nothing is copied."""
    *parts, rest = maps.split(_TOGETHER, 1)
    largest = rest.abs().amax(1)
    if parts:
        largest = torch.maximum(largest, reduce(torch.maximum, (part.abs() for part in parts)).amax(1))
    return largest


def heat_of_classes(maps: Tensor, weights: Tensor, statistic: Statistic) -> Tensor:
    """Return a heat map for each label, (B, L, h, w): of w_lk f_k over k, with weights (L, K); `sum` is the class activation map."""
    return torch.stack([heat(maps.float() * row[:, None, None], statistic) for row in weights.float()], dim=1)


def scaled(heats: Tensor) -> Tensor:
    """Return each map (N, h, w) brought to [0, 1] by its own minimum and maximum; a constant one is 0 everywhere.

    One that differs by no more than the rounding of its values is constant: enlarging a single pixel leaves such traces.
    """
    low, high = heats.amin((1, 2), keepdim=True), heats.amax((1, 2), keepdim=True)
    varied = _varied(low, high)
    return torch.where(varied, (heats - low) / torch.where(varied, high - low, 1.0), 0.0)


def _varied(low: Tensor, high: Tensor) -> Tensor:
    return high - low > _ROUNDING * torch.maximum(high.abs(), low.abs())


def enlarged(heats: Tensor, px: int) -> Tensor:
    """Return maps (N, h, w) at (N, px, px), bilinear over pixels that are areas, as OpenCV enlarges."""
    return functional.interpolate(heats[:, None], size=(px, px), mode="bilinear", align_corners=False)[:, 0]


def enlarged_levels(levels: Tensor, px: int) -> Tensor:
    """Return maps of whole numbers from 0 to 255, (N, h, w), at (N, px, px) in whole numbers too, as OpenCV enlarges bytes.

    Weights are multiples of 1/2048, and what is under 1/4 of a level is cut off on the way (`VResizeLinear` of its `resize.cpp`).
    """
    down, across = (_neighbours(levels.shape[axis], px, levels.device) for axis in (1, 2))
    whole = levels.int()
    # Across, a place beyond the first or last middle is that middle; down it lies between two that are the same, each cut off by itself.
    edge = (across[0] == across[1])[None, None]
    between = whole[:, :, across[0]] * across[2] + whole[:, :, across[1]] * across[3]
    rows = torch.where(edge, whole[:, :, across[0]] * 2048, between) >> 4
    over, under = (rows[:, down[at]] * down[2 + at][:, None] >> 16 for at in (0, 1))
    return (over + under + 2) >> 2


def _neighbours(size: int, px: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return for each of `px` pixels the two of `size` that it lies between, and their weights of 2048."""
    at = (torch.arange(px, device=device, dtype=torch.float64) + 0.5) * (size / px) - 0.5
    low = at.floor()
    weight = ((at - low) * 2048).round().int()
    return low.long().clamp(0, size - 1), (low.long() + 1).clamp(0, size - 1), 2048 - weight, weight


def otsu(levels: Tensor) -> Tensor:
    """Return the threshold of each map of whole numbers from 0 to 255, (N, h, w): int64 (N,), above which is foreground (Otsu 1979).

    The smallest one of the largest variance between the two classes, as OpenCV has it; 0 for a constant map.
    """
    flat = levels.reshape(len(levels), -1).long()
    places = flat + _LEVELS * torch.arange(len(flat), device=flat.device)[:, None]
    counts = torch.bincount(places.reshape(-1), minlength=_LEVELS * len(flat)).reshape(-1, _LEVELS).double()
    total = counts.sum(1, keepdim=True)
    values = torch.arange(_LEVELS, device=flat.device, dtype=torch.float64)
    below, moment = counts.cumsum(1), (counts * values).cumsum(1)
    above = total - below
    # Whole numbers until the division, so that equal variances are equal.
    between = (moment * total - moment[:, -1:] * below).square() / (below * above).clamp(min=1)
    return torch.where((below > 0) & (above > 0), between, -1.0).argmax(1)


def runs_in(heats: Tensor, px: int, how: Attention) -> Runs:
    """Return the mask of each heat map (N, h, w) at (N, px, px), as runs of pixels along rows.

    A fixed threshold on what is enlarged bilinearly needs no enlarged map; its masks are those of `masks_of` but for pixels that are the
    threshold to the last digits.
    """
    if how.thresholding != "fixed" or how.upsampled not in ("heat", "scaled"):
        return runs_of(masks_of(heats, px, how))
    if how.upsampled == "scaled":
        return Enlarged(scaled(heats), px).runs_above(heats.new_full((len(heats),), how.threshold))
    large = Enlarged(heats, px)
    low, high = large.extremes()
    # Nothing is above 1, or on a map without contrast.
    some = _varied(low, high) & (how.threshold < 1)
    return large.runs_above(torch.where(some, low + how.threshold * (high - low), torch.inf))


def masks_of(heats: Tensor, px: int, how: Attention) -> Tensor:
    """Return the mask of each heat map (N, h, w), bool (N, px, px)."""
    if how.upsampled == "heat":
        levels = scaled(enlarged(heats, px))
    elif how.upsampled == "levels":
        levels = enlarged_levels((scaled(heats) * 255).floor(), px) / 255
    else:
        levels = scaled(heats)
        levels = enlarged(levels, px) if how.upsampled == "scaled" else levels
    if how.thresholding == "fixed":
        masks = levels > how.threshold
    else:
        whole = (levels * 255 + (0.5 if how.upsampled == "levels" else 0.0)).floor()
        masks = whole > otsu(whole)[:, None, None]
    if how.upsampled != "mask":
        return masks
    return functional.interpolate(masks[:, None].float(), size=(px, px), mode="nearest-exact")[:, 0] > 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What was found on heat maps: boxes (N, 4) float32 in pixels of the input, and masks as runs; `empty` had no region, bool (N,)."""

    boxes: Tensor
    runs: Runs
    empty: Tensor


def attend(heats: Tensor, px: int, how: Attention) -> Attended:
    """Return the box of the largest region of each heat map (N, h, w), widened as `how` says; the whole input where there is none."""
    runs = runs_in(heats, px, how)
    boxes, sizes = largest_boxes(runs, how.connectivity)
    boxes = boxes.float()
    if not how.inclusive:
        # The released code cuts rows minh to maxh - 1: a region of one row or column has no box.
        boxes = torch.where((sizes > 0)[:, None], boxes - torch.tensor([0, 0, 1, 1], device=boxes.device), boxes)
    empty = (sizes == 0) | (boxes[:, 2:] <= boxes[:, :2]).any(1)
    boxes = torch.where(empty[:, None], torch.tensor([0.0, 0.0, px, px], device=boxes.device), boxes)
    return Attended(boxes=widened(boxes, px, margin=how.margin, min_side=how.min_side), runs=runs, empty=empty)


def widened(boxes: Tensor, px: int, *, margin: float, min_side: float) -> Tensor:
    """Return boxes (N, 4) with a margin, a share of their sides on each side, and sides of at least `min_side` of `px`, inside the image.

    A side grows about its middle, and is moved inwards where it would reach over a border.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    grown = ((high - low) * (1 + 2 * margin)).clamp(min=min_side * px, max=px)
    start = ((low + high - grown) / 2).clamp(min=0)
    start = torch.minimum(start, px - grown)
    return torch.cat([start, start + grown], dim=1)


def cut_out(images: Tensor, boxes: Tensor, px: int) -> Tensor:
    """Return what lies in each box (N, 4) of images (N, C, H, W) as (N, C, px, px) float32, boxes in pixels of the images.

    The crop is resized as `interpolate(..., mode="bilinear", antialias=True)` and PIL do: where it shrinks, every pixel counts. Both sides
    are products with matrices of weights, so a batch of crops of different sizes is two products.
    """
    across = _weights(boxes[:, 0], boxes[:, 2], images.shape[3], px)
    down = _weights(boxes[:, 1], boxes[:, 3], images.shape[2], px)
    return down[:, None] @ (images.float() @ across[:, None].transpose(2, 3))


def _weights(low: Tensor, high: Tensor, size: int, px: int) -> Tensor:
    """Return what each of `size` pixels gives to each of `px`, (N, px, size), rows adding up to 1: a triangle, cut off at the box."""
    step = (high - low) / px
    at = low[:, None] + (torch.arange(px, device=low.device) + 0.5) * step[:, None]
    pixels = torch.arange(size, device=low.device) + 0.5
    wide = step.clamp(min=1.0)[:, None, None]
    # Pixels outside the box do not count, as if it had been cut out before; a middle on the border counts.
    inside = (pixels > low.floor()[:, None, None]) & (pixels < high.ceil()[:, None, None])
    weights = (1 - (pixels - at[:, :, None]).abs() / wide).clamp(min=0) * inside
    return weights / weights.sum(2, keepdim=True).clamp(min=1e-12)
