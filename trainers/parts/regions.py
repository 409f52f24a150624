"""The largest connected region of each mask of a batch, as a box, on the device of the masks and without a loop over images or pixels.

A mask is taken apart into runs of pixels along its rows. Runs of neighbouring rows that touch are edges of a graph, whose components are
found by hooking every root to the smallest that it meets and halving paths (Shiloach and Vishkin 1982): a few rounds over some hundred runs
an image, where a sweep over pixels would take as many rounds as a region is long.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Connectivity: TypeAlias = Literal[4, 8]


def largest_boxes(masks: Tensor, connectivity: Connectivity = 8) -> tuple[Tensor, Tensor]:
    """Return the box of the largest connected region of each mask, (B, h, w) bool, and how many pixels that region has.

    Boxes are int64 (B, 4): left, top, right, bottom, right and bottom just outside. Of equal regions the one that comes first, row by row,
    is taken. A mask without a pixel gives the box of the whole image and a size of 0.
    """
    count, height, width = masks.shape
    line, start, stop = _runs(masks)
    image = line // height
    boxes = torch.tensor([0, 0, width, height], device=masks.device).repeat(count, 1)
    sizes = torch.zeros(count, dtype=torch.int64, device=masks.device)
    if len(line) == 0:
        return boxes, sizes
    roots = _components(len(line), *_touching(line, start, stop, height, width, reach=int(connectivity == 8)))
    pixels = torch.zeros_like(roots).scatter_add_(0, roots, stop - start)
    # The size first, and then the smaller root, in one number: what a maximum over all runs of an image picks.
    rank = pixels[roots] * len(line) + (len(line) - 1 - roots)
    best = torch.full((count,), -1, device=masks.device).scatter_reduce_(0, image, rank, "amax")
    chosen = rank == best[image]
    image, line, start, stop = image[chosen], line[chosen] % height, start[chosen], stop[chosen]
    found = best >= 0
    low, high = torch.full_like(sizes, max(height, width)), torch.zeros_like(sizes)
    sides = (
        low.scatter_reduce(0, image, start, "amin"),
        low.scatter_reduce(0, image, line, "amin"),
        high.scatter_reduce(0, image, stop, "amax"),
        high.scatter_reduce(0, image, line + 1, "amax"),
    )
    return torch.where(found[:, None], torch.stack(sides, dim=1), boxes), torch.where(found, best // len(roots), sizes)


def _runs(masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the runs of pixels along rows, in raster order: the row, counted over all images, the first column, the one after the last."""
    lines = masks.reshape(-1, masks.shape[2])
    # A pixel that differs from the one before begins or ends a run; a row begins and ends outside.
    edges = torch.empty(len(lines), masks.shape[2] + 1, dtype=torch.bool, device=masks.device)
    edges[:, 0], edges[:, -1] = lines[:, 0], lines[:, -1]
    torch.ne(lines[:, 1:], lines[:, :-1], out=edges[:, 1:-1])
    line, column = edges.nonzero(as_tuple=True)
    return line[::2], column[::2], column[1::2]


def _touching(line: Tensor, start: Tensor, stop: Tensor, height: int, width: int, *, reach: int) -> tuple[Tensor, Tensor]:
    """Return pairs of runs in neighbouring rows of an image that share a column, or with `reach` 1 touch at a corner."""
    # Columns count from 1, and two are spare, so that what reaches over a border stays in its row.
    wide = width + 2
    first, last = (line * wide + column for column in (start + 1, stop))
    above = wide + reach
    low = torch.searchsorted(last, first - above)
    high = torch.searchsorted(first, last - wide + reach, right=True)
    many = torch.where(line % height == 0, 0, high - low)
    below = torch.repeat_interleave(torch.arange(len(line), device=line.device), many)
    nth = torch.arange(len(below), device=line.device) - (many.cumsum(0) - many)[below]
    return low[below] + nth, below


def _components(count: int, one: Tensor, other: Tensor) -> Tensor:
    """Return the smallest member of the component of each of `count` nodes, given edges between `one` and `other`."""
    parents = torch.arange(count, device=one.device)
    while True:
        left, right = parents[one], parents[other]
        open_edges = left != right
        if not bool(open_edges.any()):
            return parents
        one, other, left, right = one[open_edges], other[open_edges], left[open_edges], right[open_edges]
        smaller = torch.minimum(left, right)
        # Every node stands for its root here, so that hooking the larger root hooks all that hang on it.
        parents.scatter_reduce_(0, torch.maximum(left, right), smaller, "amin")
        while True:
            halved = parents[parents]
            if bool((halved == parents).all()):
                break
            parents = halved
