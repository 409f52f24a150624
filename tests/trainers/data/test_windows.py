"""Windows of RandomResizedCrop against torchvision, drawn and cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as torchvision

from tests.trainers.made_data import MemoryStore
from trainers.data import transforms, windows
from trainers.data.streams import uniform

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
BENCHMARK = transforms.AUGMENTS["benchmark"]


def draws_of(count: int, epoch: int = 0) -> np.ndarray:
    return uniform(windows.COLUMNS, seed=1, epoch=epoch, positions=np.arange(count))


@given(st.tuples(st.integers(20, 300), st.integers(20, 300)), st.integers(0, 99))
def test_windows_lie_inside_their_image_and_have_the_asked_shape(shape: tuple[int, int], epoch: int) -> None:
    found = windows.windows(np.array([shape] * 20, float), SCALE, RATIO, draws_of(20, epoch))
    for top, left, tall, wide in found.tolist():
        assert 0 <= top <= top + tall <= shape[0]
        assert 0 <= left <= left + wide <= shape[1]
        assert (wide + 0.5) / (tall - 0.5) >= 3 / 4
        assert (wide - 0.5) / (tall + 0.5) <= 4 / 3


@pytest.mark.parametrize("shape", [(256, 256), (312, 256), (256, 700)])
def test_areas_ratios_and_places_are_distributed_as_torchvisions(shape: tuple[int, int]) -> None:
    count = 1500
    ours = windows.windows(np.array([shape] * count, float), SCALE, RATIO, draws_of(count))
    image = torch.zeros(1, *shape)
    torch.manual_seed(0)
    theirs = np.array([RandomResizedCrop.get_params(image, list(SCALE), list(RATIO)) for _ in range(count)])
    for of in (lambda w: w[:, 2] * w[:, 3], lambda w: w[:, 3] / w[:, 2], lambda w: w[:, 0], lambda w: w[:, 1]):
        assert stats.ks_2samp(of(ours), of(theirs)).pvalue > 0.001


def test_an_image_too_long_for_any_ratio_gives_its_largest_centred_window() -> None:
    found = windows.windows(np.array([[20.0, 2000.0], [2000.0, 20.0]]), (0.9, 1.0), RATIO, draws_of(2))
    assert found.tolist() == [[0, (2000 - 27) // 2, 20, 27], [(2000 - 27) // 2, 0, 27, 20]]


def smooth(count: int, side: int = 96) -> np.ndarray:
    random = np.random.default_rng(0)
    coarse = [Image.fromarray(random.integers(0, 256, (6, 6), dtype=np.uint8)) for _ in range(count)]
    return np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in coarse])


def test_exact_views_are_torchvisions_pixel_for_pixel() -> None:
    images, px = smooth(12), 64
    store = MemoryStore(images, [(96, 96)] * 12)
    found = transforms.batch(store, np.arange(12), px, transforms.AUGMENTS["benchmark_exact"], seed=1, epoch=2)
    draws = draws_of(12, 2)
    boxes = windows.windows(np.full((12, 2), 96.0), SCALE, RATIO, draws)
    for image, box, draw, view in zip(images, boxes.tolist(), draws, found[:, 0], strict=True):
        picture = torchvision.resized_crop(Image.fromarray(image), *box, size=[px, px])  # type: ignore[arg-type]
        picture = torchvision.hflip(picture) if draw[0] < 0.5 else picture
        picture = torchvision.rotate(picture, 7.0 * (2 * draw[1] - 1))
        np.testing.assert_array_equal(view, np.asarray(picture))


def test_one_warp_is_nearly_what_one_step_after_the_other_gives() -> None:
    """Within a view of the window's own making: what turning brings in from outside the window is image here and black there."""
    images, px = smooth(40), 64
    store = MemoryStore(images, [(96, 96)] * 40)
    one, steps = (
        transforms.batch(store, np.arange(40), px, transforms.AUGMENTS[name], seed=1, epoch=0) for name in ("benchmark", "benchmark_exact")
    )
    inside = (slice(None), 0, slice(8, -8), slice(8, -8))
    assert np.abs(one[inside].astype(int) - steps[inside]).mean() < 3
    mirrored = one[inside][..., ::-1]
    assert np.abs(mirrored.astype(int) - steps[inside]).mean() > 20


def test_a_view_does_not_depend_on_what_else_is_in_its_batch() -> None:
    store = MemoryStore(smooth(9), [(96, 96)] * 9)
    whole = transforms.batch(store, np.arange(9), 64, BENCHMARK, seed=1, epoch=0)
    np.testing.assert_array_equal(transforms.batch(store, np.array([7]), 64, BENCHMARK, seed=1, epoch=0)[0], whole[7])
