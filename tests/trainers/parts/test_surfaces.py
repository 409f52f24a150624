"""HD95 against every pair of border pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from trainers.parts.surfaces import border, hd95


def naive_border(mask: np.ndarray) -> list[tuple[int, int]]:
    padded = np.pad(mask, 1)
    return [
        (y, x)
        for y, x in np.argwhere(mask).tolist()
        if not all(padded[y + 1 + dy, x + 1 + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)))
    ]


def naive(one: np.ndarray, other: np.ndarray) -> float:
    borders = [naive_border(mask) for mask in (one, other)]
    ways = []
    for here, there in (borders, borders[::-1]):
        ways.append(float(np.percentile([min(math.dist(a, b) for b in there) for a in here], 95)))
    return max(ways)


def blob(seed: int, level: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.normal(0, 1, (40, 30)), 3)
    return (field > np.quantile(field, level)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [0.6, 0.95])
def test_it_is_that_of_all_pairs(seed: int, level: float) -> None:
    one, other = blob(seed, level), blob(seed + 100, level)
    assert {tuple(where) for where in np.argwhere(border(one)).tolist()} == set(naive_border(one))
    assert hd95(one, other) == pytest.approx(naive(one, other), rel=1e-15)
    assert hd95(one, other) == hd95(other, one)


def test_values_known_beforehand() -> None:
    point, moved = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    point[2, 3], moved[5, 7] = 1, 1
    assert hd95(point, moved) == 5
    assert hd95(point, point) == 0
    assert math.isnan(hd95(point, np.zeros((20, 20), np.uint8)))
    square = np.zeros((20, 20), np.uint8)
    square[4:14, 4:14] = 1
    # Shifted by three to the right every border pixel but those of the sides that face away is at most three away.
    assert hd95(square, np.roll(square, 3, axis=1)) == 3
    # A mask that fills the image has the margin as its border.
    assert border(np.ones((5, 5), np.uint8)).sum() == 16


def test_a_few_stray_pixels_do_not_count() -> None:
    square = np.zeros((60, 60), np.uint8)
    square[10:40, 10:40] = 1
    stray = square.copy()
    stray[58, 58] = 1
    assert hd95(square, stray) == 0


def test_it_never_exceeds_the_diagonal_and_what_lies_around_changes_nothing() -> None:
    one, other = blob(3, 0.8), blob(4, 0.8)
    assert 0 < hd95(one, other) <= math.hypot(*one.shape)
    assert hd95(np.pad(one, 7), np.pad(other, 7)) == hd95(one, other)
