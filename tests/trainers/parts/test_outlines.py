"""Outlines: where a mask ends, in two colours, at the width over height of the file."""

from __future__ import annotations

import numpy as np

from trainers.parts.outlines import DRAWN, TRUE, overlay


def mask(left: int) -> np.ndarray:
    levels = np.full((64, 64), -1.0, np.float32)
    levels[16:48, left : left + 16] = 1.0
    return levels


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((picture == colour).all(axis=2))


def test_outlines_stand_where_masks_end() -> None:
    picture = overlay(np.full((64, 64), 100, np.uint8), [mask(8)], [mask(40)], 1.0)
    assert picture.shape == (384, 384, 3) and picture.dtype == np.uint8
    for colour, left in ((TRUE, 8), (DRAWN, 40)):
        (top, first), (bottom, last) = coloured(picture, colour).min(axis=0), coloured(picture, colour).max(axis=0)
        # Six pixels of the picture for one of the mask, and lines two wide.
        assert np.abs(np.array([top, bottom, first, last]) / 6 - [16, 48, left, left + 16]).max() < 1
    middle = picture[192, 6 * 16]
    assert tuple(middle) == (100, 100, 100), "a mask is outlined and not filled"


def test_a_picture_has_the_width_over_height_of_its_file_and_an_empty_mask_no_outline() -> None:
    tall = overlay(np.full((64, 64), 100, np.uint8), [], [np.full((64, 64), -1, np.float32)], 0.5)
    assert tall.shape == (768, 384, 3)
    assert (tall == 100).all()
    assert overlay(np.full((64, 64), 100, np.uint8), [], [], 2.0).shape == (384, 768, 3)
