"""Images and masks drawn together: one geometry for both, reflected borders, shading of the image alone, and no state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tests.trainers.made_data import MemoryStore
from trainers.data.pairs import JOINTS, Joint, batch, geometry, shade
from trainers.data.streams import uniform

PX = 32


class MemoryMasks:
    """Masks in an array, (n, L, px, px) uint8."""

    def __init__(self, masks: np.ndarray) -> None:
        self.masks, self.px = masks, masks.shape[-1]
        self.structures = tuple(f"structure{index}" for index in range(masks.shape[1]))

    def mask(self, position: int) -> np.ndarray:
        return self.masks[position]

    def known(self, position: int) -> np.ndarray:
        return np.ones(len(self.structures), dtype=bool)

    def full(self, position: int) -> Mapping[str, np.ndarray]:
        return {name: (mask > 127).astype(np.uint8) for name, mask in zip(self.structures, self.masks[position], strict=True)}


def smooth(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.random((count, PX, PX)), (0, 3, 3), mode="mirror")
    return np.round((field - field.min()) / np.ptp(field) * 255).astype(np.uint8)


IMAGES = smooth(6)
STORE = MemoryStore(IMAGES, [(PX, PX)] * 6)
#: The second structure is the image itself: drawn bilinearly it has to stay that.
MASKS = MemoryMasks(np.stack([np.where(IMAGES > 127, 255, 0).astype(np.uint8), IMAGES], axis=1))
POSITIONS = np.arange(6)
MOVES = Joint(shift=0.0625, scale=0.1, rotate=10.0, geometry_p=1.0)


def naive(image: np.ndarray, matrix: np.ndarray, order: int) -> np.ndarray:
    """Sample an image with scipy: each pixel of the view comes from the inverse of the matrix, beyond the border from its reflection."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    x, y = np.meshgrid(np.arange(PX), np.arange(PX))
    source = inverse[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return ndimage.map_coordinates(image.astype(float), [source[1], source[0]], order=order, mode="mirror").reshape(PX, PX)


def test_without_augmentation_pairs_are_what_is_stored() -> None:
    views, drawn = batch(STORE, MASKS, POSITIONS, PX, JOINTS["none"], seed=1, epoch=2)
    np.testing.assert_array_equal(views[:, 0], IMAGES)
    np.testing.assert_array_equal(drawn, MASKS.masks)


def test_one_geometry_draws_both() -> None:
    views, drawn = batch(STORE, MASKS, POSITIONS, PX, MOVES, seed=1, epoch=2)
    np.testing.assert_array_equal(drawn[:, 1], views[:, 0])
    assert not np.array_equal(views[:, 0], IMAGES)


@pytest.mark.parametrize("cut", [False, True])
def test_views_are_those_of_scipys_sampling(cut: bool) -> None:
    joint = replace(MOVES, cut=(0.7, 1.0), cut_p=1.0) if cut else MOVES
    views, drawn = batch(STORE, MASKS, POSITIONS, PX, joint, seed=4, epoch=0)
    matrices = geometry(uniform(14, seed=4, epoch=0, positions=POSITIONS), PX, joint)
    for at, matrix in enumerate(matrices):
        assert matrix is not None
        # OpenCV places samples on a grid of 1/32 pixel.
        assert np.abs(views[at, 0] - naive(IMAGES[at], matrix, 1)).max() <= 3
        assert (np.abs(drawn[at, 0] - naive(MASKS.masks[at, 0], matrix, 1)) > 20).mean() < 0.02
    nearest = batch(STORE, MASKS, POSITIONS, PX, replace(joint, nearest=True), seed=4, epoch=0)[1]
    assert set(np.unique(nearest[:, 0])) <= {0, 255}
    for at, matrix in enumerate(matrices):
        assert matrix is not None
        assert (nearest[at, 0] != naive(MASKS.masks[at, 0], matrix, 0)).mean() < 0.02


def test_a_matrix_turns_about_the_centre_scales_and_shifts_as_albumentations_does() -> None:
    draws = uniform(14, seed=9, epoch=1, positions=np.arange(500))
    centre = np.array([(PX - 1) / 2, (PX - 1) / 2, 1])
    for row, matrix in zip(draws, geometry(draws, PX, MOVES), strict=True):
        assert matrix is not None
        angle, scale = np.deg2rad(10.0 * (2 * row[1] - 1)), 1 + 0.1 * (2 * row[2] - 1)
        turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        np.testing.assert_allclose(matrix[:, :2], turn, atol=1e-12)
        np.testing.assert_allclose(matrix @ centre - centre[:2], PX * 0.0625 * (2 * row[3:5] - 1), atol=1e-9)


def test_a_half_of_the_pairs_is_moved_and_a_half_shaded() -> None:
    draws = uniform(14, seed=9, epoch=1, positions=np.arange(4000))
    moved = np.array([matrix is not None for matrix in geometry(draws, PX, JOINTS["published"])])
    shaded = np.array([shade(row, JOINTS["published"]) is not None for row in draws])
    # Five standard deviations.
    assert abs(moved.mean() - 0.5) < 0.04 and abs(shaded.mean() - 0.5) < 0.04
    assert abs((moved & shaded).mean() - 0.25) < 0.035


def test_shading_is_a_table_of_levels() -> None:
    joint, row = Joint(brightness=0.2, contrast=0.2, shade_p=1.0), np.full(14, 0.0)
    row[[6, 7]] = 0.75, 0.25
    table = shade(row, joint)
    assert table is not None
    # Contrast 0.9, brightness + 0.1 of 255.
    expected = [round(min(max(level * 0.9 + 25.5, 0), 255)) for level in range(256)]
    assert np.abs(table.astype(int) - expected).max() <= 1
    power = shade(np.full(14, 0.25), Joint(gamma=(0.8, 1.2), shade_p=1.0))
    assert power is not None
    assert [int(power[level]) for level in (0, 64, 255)] == [0, round(255 * (64 / 255) ** 0.9), 255]


def test_a_pair_is_a_function_of_seed_epoch_and_position() -> None:
    whole = batch(STORE, MASKS, POSITIONS, PX, JOINTS["joint"], seed=5, epoch=3)
    backwards = batch(STORE, MASKS, POSITIONS[::-1], PX, JOINTS["joint"], seed=5, epoch=3)
    for one, other in zip(whole, backwards, strict=True):
        np.testing.assert_array_equal(one, other[::-1])
    for changes in ({"seed": 6, "epoch": 3}, {"seed": 5, "epoch": 4}, {"seed": 5, "epoch": 3, "view": 1}):
        assert not np.array_equal(batch(STORE, MASKS, POSITIONS, PX, JOINTS["joint"], **changes)[0], whole[0])


def test_an_image_of_another_shape_is_brought_to_the_square_whole() -> None:
    wide = np.repeat(IMAGES[:1], 2, axis=2)
    views, _ = batch(MemoryStore(wide, [(PX, 2 * PX)]), MASKS, np.array([0]), PX, JOINTS["none"], seed=0, epoch=0)
    np.testing.assert_array_equal(views[0, 0], IMAGES[0])
