"""Largest regions of masks are those that SciPy labels, ties and corners and borders included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from trainers.parts.regions import Connectivity, largest_boxes
from trainers.parts.runs import runs_of


def labelled(mask: np.ndarray, connectivity: Connectivity = 8) -> tuple[np.ndarray, int]:
    """Return the labels that SciPy gives the regions of a mask, and how many there are (its stubs know neither)."""
    found: Any = ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    return found


def by_scipy(mask: np.ndarray, connectivity: Connectivity) -> tuple[list[int], int]:
    """Return the box, and the size, of the largest region: of equal ones that of the lowest label, which is the first in raster order."""
    labels, count = labelled(mask, connectivity)
    if not count:
        return [0, 0, mask.shape[1], mask.shape[0]], 0
    sizes = np.bincount(labels.ravel())[1:]
    best = int(sizes.argmax())
    rows, columns = ndimage.find_objects(labels)[best]
    return [columns.start, rows.start, columns.stop, rows.stop], int(sizes[best])


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape", [(9, 13), (32, 32), (1, 7), (7, 1)])
def test_boxes_are_those_of_scipy_on_random_masks(connectivity: Connectivity, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    shares = random.uniform(0, 1, 600)
    # Single pixels and, smoothed, blobs: many regions, and ties among small ones.
    noise = random.random((600, *shape))
    window: Any = (0, 3, 3)
    smooth = ndimage.uniform_filter(noise, window)
    for values in (noise, smooth):
        masks = values < np.array([np.quantile(one, share) for one, share in zip(values, shares, strict=True)])[:, None, None]
        boxes, sizes = largest_boxes(runs_of(torch.from_numpy(masks)), connectivity)
        for mask, box, size in zip(masks, boxes.tolist(), sizes.tolist(), strict=True):
            assert (box, size) == by_scipy(mask, connectivity)


def spiral(side: int) -> np.ndarray:
    mask, at, step = np.zeros((side, side), bool), np.array([0, 0]), np.array([0, 1])
    mask[0, 0] = True
    turns = 0
    while turns < 2:
        there, beyond = at + step, at + 2 * step
        inside = (there >= 0).all() and (there < side).all()
        free = inside and not ((beyond >= 0).all() and (beyond < side).all() and mask[tuple(beyond)])
        if free and not mask[tuple(there)]:
            at, turns = there, 0
            mask[tuple(at)] = True
        else:
            step, turns = np.array([step[1], -step[0]]), turns + 1
    return mask


@pytest.mark.parametrize("connectivity", [4, 8])
def test_long_thin_regions_stay_whole(connectivity: Connectivity) -> None:
    side = 61
    comb = np.zeros((side, side), bool)
    comb[:, ::2], comb[-1] = True, True
    masks = np.stack([spiral(side), comb, comb[::-1], np.rot90(spiral(side)), np.eye(side, dtype=bool)])
    boxes, sizes = largest_boxes(runs_of(torch.from_numpy(masks.copy())), connectivity)
    for mask, box, size in zip(masks, boxes.tolist(), sizes.tolist(), strict=True):
        assert (box, size) == by_scipy(mask, connectivity)
    assert sizes[4] == (1 if connectivity == 4 else side)


def test_regions_do_not_reach_into_the_next_image_or_row() -> None:
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    # The last row of an image and the first of the next; the end of a row and the start of the one below.
    masks[0, 3, 2:4], masks[1, 0, 2:4], masks[1, 1, 4], masks[1, 2, 0] = True, True, True, True
    boxes, sizes = largest_boxes(runs_of(masks))
    assert boxes.tolist() == [[2, 3, 4, 4], [2, 0, 5, 2], [0, 0, 5, 4]]
    assert sizes.tolist() == [2, 3, 0]


def test_what_is_turned_or_mirrored_has_its_box_turned_or_mirrored() -> None:
    masks = torch.from_numpy(np.random.default_rng(1).random((200, 16, 16)) < 0.55)
    boxes, sizes = largest_boxes(runs_of(masks))
    mirrored, same = largest_boxes(runs_of(masks.flip(2)))
    turned, also = largest_boxes(runs_of(masks.transpose(1, 2)))
    assert torch.equal(sizes, same) and torch.equal(sizes, also)
    alone = torch.tensor([_unique(mask) for mask in masks.numpy()])
    assert alone.sum() > 100
    assert torch.equal(mirrored[alone], torch.stack([16 - boxes[:, 2], boxes[:, 1], 16 - boxes[:, 0], boxes[:, 3]], 1)[alone])
    assert torch.equal(turned[alone], boxes[:, [1, 0, 3, 2]][alone])


def _unique(mask: np.ndarray) -> bool:
    sizes = np.sort(np.bincount(labelled(mask)[0].ravel())[1:])
    return len(sizes) == 1 or bool(sizes[-1] > sizes[-2])
