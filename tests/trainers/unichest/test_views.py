"""What training sees: RandAugment's strengths as published, each operation beside PIL or its geometry, and draws that are a function."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.trainers.made_data import MemoryStore
from trainers.unichest import views


def picture(side: int = 48) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return (40 + 2 * rows + columns + 10 * np.sin(columns / 3)).clip(0, 255).astype(np.uint8)


def spot(side: int = 41, row: int = 10, column: int = 30) -> np.ndarray:
    view = np.zeros((side, side), np.uint8)
    view[row - 2 : row + 3, column - 2 : column + 3] = 255
    return view


def centre(view: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(view >= 192)
    return float(rows.mean()), float(columns.mean())


def test_strengths_at_magnitude_7_are_those_of_the_release() -> None:
    found = {operation: views.strength(operation) for operation in views.OPERATIONS}
    assert found == pytest.approx(
        {
            "identity": 0.0,
            "autocontrast": 0.0,
            "equalize": 0.0,
            "brightness": 1.36,
            "sharpness": 1.36,
            "shear_x": 0.21,
            "shear_y": 0.21,
            "translate_x": 7.0,
            "translate_y": 7.0,
            "rotate": 21.0,
        }
    )
    assert (views.COUNT, views.MAGNITUDE, len(views.OPERATIONS)) == (2, 7, 10)


def test_what_changes_grey_is_pils() -> None:
    view = picture()
    image = Image.fromarray(view)
    expected = {
        "identity": image,
        "autocontrast": ImageOps.autocontrast(image),
        "equalize": ImageOps.equalize(image),
        "brightness": ImageEnhance.Brightness(image).enhance(1.36),
        "sharpness": ImageEnhance.Sharpness(image).enhance(1.36),
    }
    for operation, wanted in expected.items():
        assert np.array_equal(views.apply(operation, view), np.asarray(wanted)), operation


@pytest.mark.parametrize("sign", [1, -1])
def test_what_moves_an_image_moves_a_spot_by_its_strength(sign: int) -> None:
    row, column = centre(spot())
    moved = {name: centre(views.apply(name, spot(), sign=sign)) for name in ("translate_x", "translate_y", "shear_x", "shear_y", "rotate")}
    assert moved["translate_x"] == pytest.approx((row, column + 7 * sign), abs=0.01)
    assert moved["translate_y"] == pytest.approx((row + 7 * sign, column), abs=0.01)
    assert moved["shear_x"] == pytest.approx((row, column + 0.21 * sign * row), abs=0.6)
    assert moved["shear_y"] == pytest.approx((row + 0.21 * sign * column, column), abs=0.6)
    angle, middle = np.deg2rad(21.0 * sign), 20.5
    right, down = column - middle, row - middle
    turned = middle + np.cos(angle) * right + np.sin(angle) * down, middle - np.sin(angle) * right + np.cos(angle) * down
    assert moved["rotate"] == pytest.approx(turned[::-1], abs=0.6)
    # What comes in from outside is grey.
    assert views.apply("translate_x", spot(), sign=sign)[5, 0 if sign == 1 else -1] == 128


def test_views_are_a_function_of_seed_epoch_source_and_position() -> None:
    images = np.stack([np.roll(picture(), shift, axis=1) for shift in range(6)])
    store = MemoryStore(images, [(48, 48)] * 6)
    positions = np.arange(6)
    first = views.published(store, positions, 32, seed=1, epoch=2, source=3)
    assert first.shape == (6, 1, 32, 32) and first.dtype == np.uint8
    backwards = views.published(store, positions[::-1], 32, seed=1, epoch=2, source=3)
    assert np.array_equal(first, backwards[::-1])
    for other in ({"seed": 2, "epoch": 2, "source": 3}, {"seed": 1, "epoch": 3, "source": 3}, {"seed": 1, "epoch": 2, "source": 4}):
        assert not np.array_equal(first, views.published(store, positions, 32, **other))
