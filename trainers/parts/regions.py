"""The largest connected region of each mask of a batch, as a box, on the device of the masks and without a loop over images or pixels.

A mask is known by its runs of pixels along rows (`trainers.parts.runs`). Runs of neighbouring rows that touch are edges of a graph, whose
components are found by hooking every root to the smallest that it meets and halving paths (Shiloach and Vishkin 1982): a few rounds over
some hundred runs an image, where a sweep over pixels would take as many rounds as a region is long.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from trainers.parts.runs import Runs

Connectivity: TypeAlias = Literal[4, 8]


def largest_boxes(runs: Runs, connectivity: Connectivity = 8) -> tuple[Tensor, Tensor]:
    """Return the box of the largest connected region of each mask, given by its runs, and how many pixels that region has.

    Boxes are int64 (B, 4): left, top, right, bottom, right and bottom just outside. Of equal regions the one that comes first, row by row,
    is taken. A mask without a pixel gives the box of the whole image and a size of 0.
    """
    count, height, width = runs.count, runs.height, runs.width
    line, start, stop = runs.line, runs.start, runs.stop
    image = line // height
    row = line - image * height
    boxes = torch.tensor([0, 0, width, height], device=line.device).repeat(count, 1)
    sizes = torch.zeros(count, dtype=torch.int64, device=line.device)
    if len(line) == 0:
        return boxes, sizes
    roots = _components(len(line), *_touching(line, row, start, stop, width, reach=int(connectivity == 8)))
    pixels = torch.zeros_like(roots).scatter_add_(0, roots, stop - start)
    # The size first, and then the smaller root, in one number: what a maximum over all runs of an image picks.
    rank = pixels.index_select(0, roots) * len(line) + (len(line) - 1 - roots)
    best = torch.full((count,), -1, device=line.device).scatter_reduce_(0, image, rank, "amax")
    chosen = (rank == best.index_select(0, image)).nonzero()[:, 0]
    image, row, start, stop = (part.index_select(0, chosen) for part in (image, row, start, stop))
    found = best >= 0
    low, high = torch.full_like(sizes, max(height, width)), torch.zeros_like(sizes)
    sides = (
        low.scatter_reduce(0, image, start, "amin"),
        low.scatter_reduce(0, image, row, "amin"),
        high.scatter_reduce(0, image, stop, "amax"),
        high.scatter_reduce(0, image, row + 1, "amax"),
    )
    return torch.where(found[:, None], torch.stack(sides, dim=1), boxes), torch.where(found, best // len(roots), sizes)


def _touching(line: Tensor, row: Tensor, start: Tensor, stop: Tensor, width: int, *, reach: int) -> tuple[Tensor, Tensor]:
    """Return pairs of runs in neighbouring rows of an image that share a column, or with `reach` 1 touch at a corner."""
    # Columns count from 1, and two are spare, so that what reaches over a border stays in its row.
    wide = width + 2
    first, last = (line * wide + column for column in (start + 1, stop))
    above = wide + reach
    low = torch.searchsorted(last, first - above)
    high = torch.searchsorted(first, last - wide + reach, right=True)
    many = (high - low) * (row > 0)
    below = torch.repeat_interleave(torch.arange(len(line), device=line.device), many)
    before = low - (many.cumsum(0) - many)
    return before.index_select(0, below) + torch.arange(len(below), device=line.device), below


def _components(count: int, one: Tensor, other: Tensor) -> Tensor:
    """Return the smallest member of the component of each of `count` nodes, given edges between `one` and `other`."""
    parents = torch.arange(count, device=one.device)
    while True:
        left, right = parents.index_select(0, one), parents.index_select(0, other)
        unlike = (left != right).nonzero()[:, 0]
        if not len(unlike):
            return parents
        one, other, left, right = (nodes.index_select(0, unlike) for nodes in (one, other, left, right))
        smaller = torch.minimum(left, right)
        # Every node stands for its root here, so that hooking the larger root hooks all that hang on it.
        parents.scatter_reduce_(0, torch.maximum(left, right), smaller, "amin")
        while True:
            halved = parents.index_select(0, parents)
            if torch.equal(halved, parents):
                break
            parents = halved
