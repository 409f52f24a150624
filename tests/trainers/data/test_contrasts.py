"""Contrast is what Pillow and OpenCV make of the same view, and each view's is its own."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from trainers.data.contrasts import Contrast, brought_out


def views_of(count: int = 12, px: int = 40) -> np.ndarray:
    """Return smooth views (count, 1, px, px) that use from a few to most of the 256 levels."""
    random = np.random.default_rng(0)
    coarse = random.random((count, 5, 5)).astype(np.float32)
    smooth = np.stack([cv2.resize(one, (px, px), interpolation=cv2.INTER_CUBIC) for one in coarse])
    spread = np.linspace(6, 220, count)[:, None, None]
    return np.clip(20 + spread * smooth, 0, 255).astype(np.uint8)[:, None]


def difference(ours: np.ndarray, theirs: np.ndarray) -> int:
    return int(np.abs(ours.astype(int) - theirs.astype(int)).max())


def test_stretched_levels_are_pillows() -> None:
    views = views_of()
    for view, found in zip(views[:, 0], brought_out(views, "autocontrast")[:, 0], strict=True):
        # Pillow cuts off what is below a level, and we round.
        assert difference(found, np.asarray(ImageOps.autocontrast(Image.fromarray(view)))) <= 1
        assert (int(found.min()), int(found.max())) == (0, 255)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5, 2.0])
def test_a_factor_is_pillows(factor: float) -> None:
    views = views_of()
    for view, found in zip(views[:, 0], brought_out(views, "factor", factor)[:, 0], strict=True):
        # Pillow rounds the mean, which is (1 - factor) of half a level at most, and cuts off.
        assert difference(found, np.asarray(ImageEnhance.Contrast(Image.fromarray(view)).enhance(factor))) <= 2
    assert factor != 1.0 or np.array_equal(brought_out(views, "factor", factor), views)


def test_clahe_is_opencvs_with_its_example_s_values() -> None:
    views = views_of()
    clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    for view, found in zip(views[:, 0], brought_out(views, "clahe")[:, 0], strict=True):
        np.testing.assert_array_equal(found, clahe.apply(view))
    assert float(brought_out(views[:4], "clahe").std()) > 1.5 * float(views[:4].std(axis=(2, 3)).mean())


@pytest.mark.parametrize("how", get_args(Contrast))
def test_a_view_does_not_see_the_others(how: Contrast) -> None:
    views = views_of()
    before = views.copy()
    found = brought_out(views, how, 1.3)
    np.testing.assert_array_equal(views, before)
    for index in range(len(views)):
        np.testing.assert_array_equal(brought_out(views[index : index + 1], how, 1.3)[0], found[index])
    flat = np.full((1, 1, 40, 40), 77, np.uint8)
    assert np.ptp(brought_out(flat, how, 1.3)) == 0
    assert how == "clahe" or (brought_out(flat, how, 1.3) == 77).all()
