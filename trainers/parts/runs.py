"""Runs of pixels along the rows of a batch of masks, and those of an enlarged map above a threshold without the enlarged map.

A map that is enlarged bilinearly is, along every row of pixels, a chain of straight pieces between the knots of the source. What is above a
threshold is known of a whole piece from its first and last pixel, and where both differ from one crossing: of a map of 7 x 7 at 224 x 224
that is 16 numbers a row in place of 224.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Runs of pixels along the rows of `count` masks of `height` x `width`, in raster order.

    Each is int64 (R,): the row, counted over all masks, the first column, and the one after the last.
    """

    line: Tensor
    start: Tensor
    stop: Tensor
    count: int
    height: int
    width: int

    def masks(self) -> Tensor:
        """Return the masks, bool (count, height, width)."""
        wide = self.width + 1
        steps = torch.zeros(self.count * self.height * wide, dtype=torch.int32, device=self.line.device)
        one = torch.ones_like(self.line, dtype=torch.int32)
        # Two runs of a row do not touch, so that a place begins or ends one run at most.
        steps.scatter_add_(0, self.line * wide + self.start, one).scatter_add_(0, self.line * wide + self.stop, -one)
        return steps.reshape(self.count, self.height, wide).cumsum(2)[:, :, : self.width] > 0


def runs_of(masks: Tensor) -> Runs:
    """Return the runs of masks (B, h, w) bool."""
    count, height, width = masks.shape
    line, start, stop = _changes(masks.reshape(-1, width))
    return Runs(line=line, start=start, stop=stop, count=count, height=height, width=width)


def _changes(lines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return of rows (n, w) bool where each run is: its row, its first column, and the one after its last."""
    # A pixel that differs from the one before begins or ends a run; a row begins and ends outside.
    wide = lines.shape[1] + 1
    edges = torch.empty(len(lines), wide, dtype=torch.bool, device=lines.device)
    edges[:, 0], edges[:, -1] = lines[:, 0], lines[:, -1]
    torch.ne(lines[:, 1:], lines[:, :-1], out=edges[:, 1:-1])
    places = edges.reshape(-1).nonzero()[:, 0].reshape(-1, 2).T.contiguous()
    line = places[0] // wide
    start, stop = places - line * wide
    return line, start, stop


class Enlarged:
    """A batch of maps (B, h, w) brought to (B, px, px), bilinearly over pixels that are areas, and known by the pieces of its rows."""

    def __init__(self, maps: Tensor, px: int) -> None:
        """Bring the maps to px rows, and take the first and the last pixel of each piece of each row."""
        count, height, width = maps.shape
        self.count, self.px = count, px
        self._down, self._across = _Axis.of(height, px, maps), _Axis.of(width, px, maps)
        # Images last, (w, px, B): what is taken for a piece or for a row is then one stretch of memory.
        lower, step = self._down.pieces(maps.detach().permute(2, 1, 0).contiguous(), 1)
        piece = self._down.piece
        rows = torch.addcmul(lower.index_select(1, piece), step.index_select(1, piece), self._down.at[:, None])
        self._lower, self._step = self._across.pieces(rows, 0)
        ends = (self._across.at[at][:, None, None] for at in (self._across.first, self._across.last))
        self._ends = torch.stack([torch.addcmul(self._lower, self._step, at) for at in ends], dim=1).flatten(0, 1)

    def extremes(self) -> tuple[Tensor, Tensor]:
        """Return the minimum and the maximum of each enlarged map, (B,): both lie at ends of pieces, across and down."""
        corners = self._ends.index_select(1, torch.cat([self._down.first, self._down.last])).flatten(0, 1)
        return corners.amin(0), corners.amax(0)

    def runs_above(self, thresholds: Tensor) -> Runs:
        """Return the runs of pixels whose value is above their map's threshold (B,)."""
        # Two pixels stand for a piece: where they differ, its crossing begins or ends a run, and elsewhere its border may.
        line, start, stop = _changes((self._ends > thresholds).permute(2, 1, 0).flatten(0, 1))
        start, stop = (self._pixels(column, line, thresholds) for column in (start, stop))
        return Runs(line=line, start=start, stop=stop, count=self.count, height=self.px, width=self.px)

    def _pixels(self, column: Tensor, line: Tensor, thresholds: Tensor) -> Tensor:
        """Return the pixel that each change among the ends of pieces belongs to."""
        across = self._across
        border = torch.cat([across.first, across.first.new_tensor([self.px])]).index_select(0, column >> 1)
        crossed = (column & 1).nonzero()[:, 0]
        line, first = line.index_select(0, crossed), border.index_select(0, crossed)
        piece = column.index_select(0, crossed) >> 1
        image = line // self.px
        place = (piece * self.px + line - image * self.px) * self.count + image
        lower, step = (values.reshape(-1).index_select(0, place) for values in (self._lower, self._step))
        level = thresholds.index_select(0, image)
        # The quotient is rounded: the values of the pixel that it gives, and of the one before, decide.
        pixel = ((level - lower) / step * (self.px / across.size) + across.origin.index_select(0, piece)).long() + 1
        pixel = torch.minimum(torch.maximum(pixel, first + 1), across.last.index_select(0, piece))
        rising = step > 0
        pixel = pixel - ((torch.addcmul(lower, step, across.at.index_select(0, pixel - 1)) > level) == rising).long()
        pixel = pixel + ((torch.addcmul(lower, step, across.at.index_select(0, pixel)) > level) != rising).long()
        return border.index_copy_(0, crossed, pixel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """A line of knots brought to more pixels, or fewer: straight pieces, with a flat one before the first knot and one behind the last."""

    size: int
    #: Of each piece: the knots that it lies between, and its first and last pixel, int64 (P,); and the pixel at which it would begin.
    below: Tensor
    above: Tensor
    first: Tensor
    last: Tensor
    origin: Tensor
    #: Of each pixel: its piece, and how far into it, from 0 to 1 (px,).
    piece: Tensor
    at: Tensor

    @classmethod
    def of(cls, size: int, px: int, like: Tensor) -> _Axis:
        """Return the pieces of `size` knots at `px` pixels, with the device and the precision of a tensor."""
        place = (np.arange(px) + 0.5) * (size / px) - 0.5
        floor = np.floor(place)
        knots, first, piece, many = np.unique(floor.astype(np.int64), return_index=True, return_inverse=True, return_counts=True)
        whole = (np.maximum(knots, 0), np.minimum(knots + 1, size - 1), first, first + many - 1, piece)
        below, above, first, last, piece = (torch.from_numpy(values).to(like.device) for values in whole)
        at, origin = (torch.from_numpy(values).to(like) for values in (place - floor, (knots + 0.5) * (px / size) - 0.5))
        return cls(size=size, below=below, above=above, first=first, last=last, origin=origin, piece=piece, at=at)

    def pieces(self, knots: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        """Return the value at which each piece begins, and how far it goes up to the next knot, of knots along `dim`."""
        below = knots.index_select(dim, self.below)
        return below, knots.index_select(dim, self.above) - below
