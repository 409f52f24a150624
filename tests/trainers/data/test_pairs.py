"""Images and masks drawn together: one geometry for both, reflected borders, shading of the image alone, and no state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy import ndimage

from tests.trainers.made_data import MemoryStore
from trainers.data import distortions
from trainers.data.distortions import Strengths
from trainers.data.pairs import JOINTS, Joint, _bent, batch, geometry, shade
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


NO_BEND = Strengths(alpha=0, sigma=6, affine=0, grid=0, lens=0)
PUBLISHED = Strengths(alpha=120, sigma=6, affine=3.6, grid=0.3, lens=2.0)
assert JOINTS["published_2022"].bend == PUBLISHED
ALWAYS = Joint(bend=PUBLISHED, bend_p=1.0)


def bend_draws(count: int, kind: int = 0, seed: int = 3) -> np.ndarray:
    draws = uniform(distortions.DRAWS, seed=seed, epoch=0, positions=np.arange(count))
    draws[:, 0] = (kind + 0.5) / 3
    return draws


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("px", [32, 33, 224])
def test_a_distortion_of_no_strength_moves_nothing(kind: int, px: int) -> None:
    x, y = distortions.maps(bend_draws(1, kind)[0], px, NO_BEND)
    np.testing.assert_allclose(x, np.tile(np.arange(px), (px, 1)), atol=1e-4)
    np.testing.assert_allclose(y, np.tile(np.arange(px), (px, 1)).T, atol=1e-4)
    views, drawn = batch(STORE, MASKS, POSITIONS, PX, Joint(bend=NO_BEND, bend_p=1.0), seed=1, epoch=2)
    np.testing.assert_array_equal(views[:, 0], IMAGES)
    np.testing.assert_array_equal(drawn, MASKS.masks)


@pytest.mark.parametrize("cut_p", [0.0, 1.0])
def test_image_and_mask_are_bent_together(cut_p: float) -> None:
    """A structure that is the image stays the image; one that is where the image is bright stays there, however masks are sampled."""
    joint = replace(ALWAYS, cut=(0.7, 1.0), cut_p=cut_p)
    views, drawn = batch(STORE, MASKS, POSITIONS, PX, joint, seed=1, epoch=2)
    np.testing.assert_array_equal(drawn[:, 1], views[:, 0])
    assert (np.abs(views[:, 0].astype(int) - IMAGES) > 10).mean() > 0.2
    binary = MemoryStore(MASKS.masks[:, 0], [(PX, PX)] * 6)
    for nearest in (False, True):
        image, masks = batch(binary, MASKS, POSITIONS, PX, replace(joint, nearest=nearest), seed=1, epoch=2)
        thresholded = image[:, 0] > 127
        # Half of a pixel lies between the nearest pixel and what is interpolated.
        assert ((masks[:, 0] > 127) != thresholded).mean() <= (0.03 if nearest else 0.0)
        assert thresholded.any() and not thresholded.all()


def test_a_lens_is_opencvs() -> None:
    for k in (-2.0, -0.3, 0.4, 2.0):
        camera = np.array([[PX, 0, PX / 2], [0, PX, PX / 2], [0, 0, 1]], np.float64)
        wanted = cv2.initUndistortRectifyMap(camera, np.array([k, k, 0, 0, 0.0]), None, camera, (PX, PX), cv2.CV_32FC1)  # type: ignore[call-overload]
        for one, other in zip(distortions.lens(k, PX), wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_grid_stretches_each_cell_by_its_own_factor() -> None:
    for row in bend_draws(20, kind=1):
        x, y = distortions.grid(row, 224, 0.3)
        factors = 1 + 0.3 * (2 * row[3:15].reshape(2, 6) - 1)
        for places, steps in ((x[0], factors[0]), (y[:, 0], factors[1])):
            # Five cells of 44 pixels, and a rest of 4 that ends at the border.
            nodes = np.concatenate([[0], np.cumsum(44 * steps[:5]), [224]])
            np.testing.assert_allclose(places, np.interp(np.arange(224), [0, 44, 88, 132, 176, 220, 224], nodes), atol=1e-3)
        assert np.ptp(x, axis=0).max() == np.ptp(y, axis=1).max() == 0


def test_an_elastic_distortion_moves_three_points_and_then_every_pixel() -> None:
    affine = replace(PUBLISHED, alpha=0)
    for row in bend_draws(10):
        x, y = distortions.elastic(row, 224, affine)
        fixed = 112 + 74 * np.array([[1, 1], [1, -1], [-1, -1]])
        moved = fixed + 3.6 * (2 * row[3:9].reshape(3, 2) - 1)
        came = [ndimage.map_coordinates(one.astype(float), moved[:, ::-1].T, order=1) for one in (x, y)]
        np.testing.assert_allclose(np.stack(came, 1), fixed, atol=1e-2)
    spreads = []
    for px in (224, 448):
        x, _ = distortions.elastic(bend_draws(1)[0], px, replace(PUBLISHED, affine=0))
        spreads.append(float((x - np.arange(px)).std()))
    # Noise in [-1, 1] has variance 1 / 3, and a Gaussian of sd s leaves 1 / (4 pi s^2) of it; a field has some 200 places that are free.
    expected = 120 * np.sqrt(1 / 3 / (4 * np.pi * 6**2))
    assert spreads[0] == pytest.approx(expected, rel=0.2) and spreads[1] == pytest.approx(2 * expected, rel=0.2)


@pytest.mark.parametrize("kind", range(3))
def test_what_is_bent_and_then_cut_is_drawn_once(kind: int) -> None:
    """Cutting the maps is sampling at what the cut asks for: scipy, in two steps."""
    row = np.concatenate([np.full(14, 0.5), [0.0], bend_draws(1, kind)[0]])
    joint = replace(ALWAYS, cut=(0.75, 0.75), cut_p=1.0)
    (matrix,) = geometry(row[None], PX, joint)
    bent = _bent(row, PX, joint, matrix)
    assert bent is not None and matrix is not None
    plain = distortions.maps(row[15:], PX, joint.bend)  # type: ignore[arg-type]
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    x, y = np.meshgrid(np.arange(PX), np.arange(PX))
    at = inverse[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    for one, other in zip(bent, plain, strict=True):
        wanted = ndimage.map_coordinates(other.astype(float), at[::-1], order=1, mode="nearest").reshape(PX, PX)
        assert np.abs(one - wanted).max() < 0.1


def test_three_in_ten_are_bent_each_way_alike_and_again_the_same() -> None:
    draws = uniform(15 + distortions.DRAWS, seed=9, epoch=1, positions=np.arange(4000))
    bent = draws[:, 14] < 0.3
    kinds = np.bincount((draws[bent, 15] * 3).astype(int), minlength=3)
    # Five standard deviations.
    assert abs(bent.mean() - 0.3) < 0.04 and np.abs(kinds / bent.sum() - 1 / 3).max() < 0.07
    whole = batch(STORE, MASKS, POSITIONS, PX, ALWAYS, seed=5, epoch=3)
    backwards = batch(STORE, MASKS, POSITIONS[::-1], PX, ALWAYS, seed=5, epoch=3)
    for one, other in zip(whole, backwards, strict=True):
        np.testing.assert_array_equal(one, other[::-1])
    assert not np.array_equal(batch(STORE, MASKS, POSITIONS, PX, ALWAYS, seed=5, epoch=4)[0], whole[0])
