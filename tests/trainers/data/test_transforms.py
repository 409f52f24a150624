from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data.streams import key, uniform
from trainers.data.transforms import AUGMENTS, Augment, batch, channel_statistics, normalize, plain, warp_matrices
from trainers.data.workers import set_workers, spread
from trainers.errors import DataError


class Memory:
    """Images of several shapes with one short side, in memory."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images = images
        self.px = min(images[0].shape)

    def image(self, position: int) -> np.ndarray:
        return self.images[position]

    def file_shape(self, position: int) -> tuple[int, int]:
        return self.images[position].shape[0], self.images[position].shape[1]


def noise(px: int = 32, count: int = 12) -> Memory:
    rng = np.random.default_rng(1)
    return Memory([rng.integers(0, 256, (px, px + 3 * index) if index % 2 else (px + index, px), dtype=np.uint8) for index in range(count)])


STORE = noise()
EVERYTHING = Augment(rotate=15, flip=0.5, scale=(0.5, 1), ratio=(0.8, 1.25), brightness=0.3, contrast=0.3)


# --- randomness -------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    positions=st.lists(st.integers(0, 11), min_size=1, max_size=20),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    view=st.integers(0, 3),
    cut=st.integers(0, 20),
)
def test_a_view_depends_on_its_keys_alone(positions: list[int], seed: int, epoch: int, view: int, cut: int) -> None:
    """Whatever the order of samples and the size of batches, the pixels are the same."""
    options = {"seed": seed, "epoch": epoch, "view": view}
    together = batch(STORE, np.array(positions), 32, EVERYTHING, **options)
    parts = [np.array(part, dtype=np.int64) for part in (positions[:cut], positions[cut:])]
    np.testing.assert_array_equal(together, np.concatenate([batch(STORE, part, 32, EVERYTHING, **options) for part in parts]))
    alone = [batch(STORE, np.array([position]), 32, EVERYTHING, **options)[0] for position in positions]
    np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_number_of_threads_changes_no_byte(count: int) -> None:
    positions = np.arange(12).repeat(4)
    alone = batch(STORE, positions, 32, EVERYTHING, seed=5, epoch=2), plain(STORE, positions, 16)
    set_workers(count)
    try:
        beside = batch(STORE, positions, 32, EVERYTHING, seed=5, epoch=2), plain(STORE, positions, 16)
    finally:
        set_workers(1)
    assert all(np.array_equal(here, there) for here, there in zip(alone, beside, strict=True))


def test_several_threads_draw_and_an_error_of_one_is_raised() -> None:
    names: set[str] = set()
    meeting = threading.Barrier(3, timeout=60)

    def seen(part: slice) -> None:
        meeting.wait()  # Three threads must be here at once.
        names.add(threading.current_thread().name)
        if part.start == 0:
            raise DataError("the first is broken")

    set_workers(3)
    try:
        with pytest.raises(DataError, match="the first is broken"):
            spread(seen, 12)
    finally:
        set_workers(1)
    assert len(names) == 3 and threading.current_thread().name not in names


def test_every_key_changes_the_view() -> None:
    base = {"seed": 1, "epoch": 2, "view": 0}
    views = [batch(STORE, np.arange(12), 32, EVERYTHING, **{**base, **change}) for change in ({}, {"seed": 2}, {"epoch": 1}, {"view": 1})]
    for first in range(4):
        for second in range(first):
            assert (views[first] != views[second]).mean() > 0.5


def test_uniform_numbers_are_uniform_and_independent() -> None:
    draws = uniform(8, seed=5, epoch=1, positions=np.arange(20_000), view=1)
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.stack([np.histogram(draws[:, column], bins=20, range=(0, 1))[0] for column in range(8)])
    # 19 degrees of freedom: 60 is beyond the 1e-5 tail.
    assert (((counts - 1000) ** 2 / 1000).sum(axis=1) < 60).all()
    others = np.concatenate([draws, uniform(8, seed=5, epoch=2, positions=np.arange(20_000), view=1)], axis=1)
    correlation = np.corrcoef(others.T) - np.eye(16)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 5 / np.sqrt(20_000)


def test_more_operations_do_not_move_the_first() -> None:
    positions = np.arange(9)
    np.testing.assert_array_equal(uniform(3, seed=1, epoch=0, positions=positions), uniform(8, seed=1, epoch=0, positions=positions)[:, :3])


def split_mix(state: int) -> Iterator[int]:
    """Yield SplitMix64's outputs in plain integers, as its paper has it."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        value = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
        yield value ^ (value >> 31)


def test_streams_are_split_mix_64() -> None:
    # The generator's published first outputs for the seed 1234567.
    assert list(islice(split_mix(1234567), 2)) == [6457827717110365317, 3203168211198807973]
    assert key(1234567) == 6457827717110365317
    start = key(1, 2, 7)
    for position, row in zip((0, 3, 999_999), uniform(4, seed=1, epoch=2, positions=np.array([0, 3, 999_999]), view=7), strict=True):
        stream = split_mix(next(split_mix(position ^ start)))
        assert [value * 2**53 for value in row.tolist()] == [value >> 11 for value in islice(stream, 4)]


# --- geometry ---------------------------------------------------------------------------------------------------------------------------


def drawn(**changes: float) -> np.ndarray:
    """Return the draws of one sample: the middle of every range, with some changed."""
    names = ("flip", "rotate", "area", "ratio", "x", "y", "brightness", "contrast")
    return np.array([[changes.get(name, 0.5) for name in names]])


def mapped(shape: tuple[int, int], px: int, augment: Augment, at: tuple[float, float], **changes: float) -> np.ndarray:
    """Return the (x, y) of the image that a view's pixel (x, y) is taken from."""
    matrix = warp_matrices(np.array([shape], dtype=np.float64), px, augment, drawn(**changes))[0]
    return matrix @ np.array([*at, 1.0])


def test_without_augmentation_a_view_is_the_centre_square_exactly() -> None:
    for store in (STORE, noise(33)):
        views = batch(store, np.arange(12), store.px, AUGMENTS["none"], seed=1, epoch=1)
        np.testing.assert_array_equal(views, plain(store, np.arange(12), store.px))
        image = store.image(3)
        left = (image.shape[1] - store.px) // 2
        np.testing.assert_array_equal(views[3, 0], image[:, left : left + store.px])


def test_a_random_crop_is_an_exact_cut_out_of_the_long_side() -> None:
    image = STORE.image(11)  # 32 x 65
    starts = set()
    for epoch in range(300):
        view = batch(STORE, np.array([11]), 32, AUGMENTS["crop"], seed=0, epoch=epoch)[0, 0]
        fits = [left for left in range(65 - 32 + 1) if np.array_equal(image[:, left : left + 32], view)]
        assert len(fits) == 1
        starts.add(fits[0])
    assert starts == set(range(34))


def test_a_flip_mirrors_the_image_exactly() -> None:
    square = Memory([STORE.image(0)])
    view = batch(square, np.array([0]), 32, Augment(flip=1.0), seed=0, epoch=0)[0, 0]
    np.testing.assert_array_equal(view, square.image(0)[:, ::-1])
    flips = [bool((batch(square, np.array([0]), 32, Augment(flip=0.3), seed=0, epoch=epoch)[0, 0] == view).all()) for epoch in range(1000)]
    assert abs(np.mean(flips) - 0.3) < 4 * np.sqrt(0.21 / 1000)


def test_a_positive_angle_turns_counter_clockwise_about_the_centre() -> None:
    quarter = Augment(rotate=90)
    square = Memory([STORE.image(0)])
    matrix = warp_matrices(np.array([[32.0, 32.0]]), 32, quarter, drawn(rotate=1.0))[0]
    turned = np.rot90(square.image(0))
    for x, y in ((0, 0), (31, 0), (5, 20)):
        source = matrix @ np.array([x, y, 1.0])
        assert turned[y, x] == square.image(0)[round(source[1]), round(source[0])]
    np.testing.assert_allclose(mapped((40, 60), 40, Augment(rotate=20), (19.5, 19.5), rotate=0.9), [29.5, 19.5])


def test_turning_leaves_black_corners_and_keeps_the_middle() -> None:
    white = Memory([np.full((64, 64), 255, np.uint8)])
    epoch = next(epoch for epoch in range(100) if abs(uniform(8, seed=0, epoch=epoch, positions=np.array([0]))[0, 1] - 0.5) > 0.4)
    view = batch(white, np.array([0]), 64, Augment(rotate=10), seed=0, epoch=epoch)[0, 0]
    assert (view[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).any()
    assert (view[16:48, 16:48] == 255).all()


def test_a_crop_has_no_dark_edge() -> None:
    white = Memory([np.full((32, 50), 255, np.uint8)])
    for epoch in range(50):
        assert (batch(white, np.array([0]), 32, Augment(scale=(0.3, 0.9), ratio=(0.7, 1.4)), seed=0, epoch=epoch) == 255).all()


def test_the_window_has_the_area_and_ratio_that_were_drawn() -> None:
    augment = Augment(scale=(0.25, 0.25), ratio=(4.0, 4.0))
    corner, opposite = (mapped((64, 100), 16, augment, at) for at in ((0, 0), (15, 15)))
    # Area a quarter of 64 x 64, four times as wide as high: 64 x 16 pixels.
    np.testing.assert_allclose(opposite - corner, [63, 15])


@settings(max_examples=200, deadline=None)
@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=8, max_size=8),
    low=st.floats(0.1, 1),
    wide=st.floats(1, 2),
)
def test_an_unturned_window_stays_inside_the_image(height: int, width: int, draws: list[float], low: float, wide: float) -> None:
    augment = Augment(flip=0.5, scale=(low, 1.0), ratio=(1 / wide, wide))
    matrix = warp_matrices(np.array([[height, width]], dtype=np.float64), 24, augment, np.array([draws]))[0]
    corners = np.array([[0, 0, 1], [23, 0, 1], [0, 23, 1], [23, 23, 1]]) @ matrix.T
    assert corners.min() > -1e-9
    assert corners[:, 0].max() < width - 1 + 1e-9
    assert corners[:, 1].max() < height - 1 + 1e-9


def test_angles_and_areas_are_spread_over_their_ranges() -> None:
    augment = AUGMENTS["cxr_plus"]
    draws = uniform(8, seed=3, epoch=0, positions=np.arange(5000))
    matrices = warp_matrices(np.full((5000, 2), 64.0), 64, augment, draws)
    angles = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    steps = np.hypot(matrices[:, :, 0], 0)
    assert -10 <= angles.min() < -9.9
    assert 9.9 < angles.max() <= 10
    assert abs(angles.mean()) < 5 * 5.77 / np.sqrt(5000)
    width = np.linalg.norm(steps, axis=1) * 63 + 1
    height = np.linalg.norm(matrices[:, :, 1], axis=1) * 63 + 1
    area = width * height / 64**2
    assert 0.595 < area.min() < 0.61
    assert 0.9 - 1e-6 <= (width / height).min() < 0.91
    assert 1.09 < (width / height).max() < 1.1 + 1e-6


# --- shading and normalisation ----------------------------------------------------------------------------------------------------------


def test_brightness_multiplies_and_contrast_turns_about_the_mean() -> None:
    image = np.full((16, 16), 100, np.uint8)
    image[:8] = 50
    store = Memory([image])
    for epoch in range(40):
        draws = uniform(8, seed=0, epoch=epoch, positions=np.array([0]))[0]
        bright = batch(store, np.array([0]), 16, Augment(brightness=0.4), seed=0, epoch=epoch)[0, 0]
        factor = 0.6 + 0.8 * draws[6]
        assert bright[15, 0] == round(100 * factor)
        contrast = batch(store, np.array([0]), 16, Augment(contrast=0.4), seed=0, epoch=epoch)[0, 0]
        assert abs(int(contrast[15, 0]) - (75 + (0.6 + 0.8 * draws[7]) * 25)) <= 0.5 + 1e-9
        assert abs(contrast.mean() - 75) <= 0.5


def test_shading_clips_at_both_ends() -> None:
    store = Memory([np.tile(np.linspace(0, 255, 16, dtype=np.uint8), (16, 1))])
    views = np.stack([batch(store, np.array([0]), 16, Augment(brightness=0.9, contrast=0.9), seed=0, epoch=epoch) for epoch in range(100)])
    assert views.min() == 0
    assert views.max() == 255
    assert (np.diff(views[:, 0, 0, 0].astype(int), axis=1) >= 0).all(), "a value that wrapped around"


def test_a_store_that_is_too_fine_is_refused() -> None:
    with pytest.raises(ValueError, match="open the store at 16"):
        batch(STORE, np.arange(2), 16, AUGMENTS["none"], seed=0, epoch=0)


@pytest.mark.parametrize("wrong", [{"scale": (0.0, 1.0)}, {"scale": (1.0, 0.5)}, {"ratio": (2.0, 1.0)}, {"flip": 1.5}, {"crop": "middle"}])
def test_an_impossible_augmentation_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not an augmentation"):
        Augment(**wrong)  # type: ignore[arg-type]


def test_plain_shrinks_the_centre_square() -> None:
    half = plain(STORE, np.array([11]), 16)
    left = (65 - 32) // 2
    expected = STORE.image(11)[:, left : left + 32].reshape(16, 2, 16, 2).mean(axis=(1, 3))
    assert np.abs(half[0, 0] - expected).max() <= 0.5


def test_normalisation_is_minus_mean_over_sd() -> None:
    views = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    cxr = normalize(views, "cxr")
    assert cxr.dtype == np.float32
    assert cxr.shape == (1, 1, 16, 16)
    assert cxr.min() == pytest.approx(-5.866, abs=1e-3)
    assert cxr.max() == pytest.approx(5.819, abs=1e-3)
    three = normalize(views, "imagenet", 3)
    assert three.shape == (1, 3, 16, 16)
    for channel, (mean, sd) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        np.testing.assert_allclose(three[0, channel], (views[0, 0] / 255 - mean) / sd, rtol=1e-5, atol=1e-6)
    assert normalize(views, "half", 3).shape == (1, 3, 16, 16)
    assert channel_statistics("imagenet", 1) == (pytest.approx((0.449,)), pytest.approx((0.226,)))
    with pytest.raises(ValueError, match="no normalisation 'cifar' among cxr, imagenet, half"):
        normalize(views, "cifar")
