"""Heat maps, masks, boxes and crops, beside NumPy, OpenCV, scikit-image and torch's own resizing."""

from __future__ import annotations

from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from tests.trainers.parts.test_regions import labelled
from trainers.parts import attention
from trainers.parts.attention import Attention, Statistic, attend, attention_from, cut_out, heat, heat_of_classes, otsu, widened

PX = 64


def random_maps(count: int, channels: int = 6, side: int = 7, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.relu(torch.randn(count, channels, side, side, generator=generator))


def by_hand(statistic: Statistic, f: np.ndarray) -> np.ndarray:
    """Return the heat map of feature maps (K, h, w), pixel by pixel."""
    found = np.zeros(f.shape[1:])
    for y, x in np.ndindex(found.shape):
        column = [float(value) for value in f[:, y, x]]
        found[y, x] = {
            "max": max(abs(v) for v in column),
            "l1": sum(abs(v) for v in column) / len(column),
            "l2": sum(v * v for v in column) ** 0.5 / len(column),
            "sum": sum(column),
        }[statistic]
    return found


@pytest.mark.parametrize("statistic", get_args(Statistic))
def test_heat_maps_are_their_formulas(statistic: Statistic) -> None:
    maps = torch.randn(3, 5, 4, 3, generator=torch.Generator().manual_seed(1))
    for one, found in zip(maps.numpy(), heat(maps, statistic).numpy(), strict=True):
        np.testing.assert_allclose(found, by_hand(statistic, one), rtol=1e-5, atol=1e-6)
    # Of classes: those of the weighted maps; a weight of 1 on all of them changes nothing.
    weights = torch.stack([torch.ones(5), torch.arange(5.0) - 2])
    classes = heat_of_classes(maps, weights, statistic)
    torch.testing.assert_close(classes[:, 0], heat(maps, statistic))
    torch.testing.assert_close(classes[:, 1], heat(maps * weights[1][None, :, None, None], statistic))


def box_by_scipy(heats: np.ndarray, px: int, how: Attention) -> tuple[list[int], np.ndarray]:
    """Return the box of one heat map without margins, as plain OpenCV and SciPy find it: left, top, right, bottom, just outside."""

    def unit(values: np.ndarray) -> np.ndarray:
        reach = values.max() - values.min()
        return (values - values.min()) / (reach if reach > 0 else 1)

    def large(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, (px, px), interpolation=cv2.INTER_LINEAR)

    heats = heats.astype(np.float32)
    values = {
        "heat": lambda: unit(large(heats)),
        "scaled": lambda: large(unit(heats)),
        "levels": lambda: large(np.floor(unit(heats) * 255).astype(np.uint8)) / 255,
        "mask": lambda: unit(heats),
    }[how.upsampled]()
    mask = values > how.threshold
    if how.upsampled == "mask":
        mask = np.kron(mask, np.ones((px // len(mask), px // len(mask)))) > 0
    labels, count = labelled(mask, how.connectivity)
    if not count:
        return [0, 0, px, px], mask
    rows, columns = ndimage.find_objects(labels)[int(np.bincount(labels.ravel())[1:].argmax())]
    return [columns.start, rows.start, columns.stop, rows.stop], mask


@pytest.mark.parametrize("upsampled", ["heat", "scaled", "levels", "mask"])
@pytest.mark.parametrize(("statistic", "threshold", "connectivity"), [("max", 0.7, 8), ("l1", 0.5, 4), ("sum", 0.9, 8)])
def test_boxes_are_those_of_opencv_and_scipy(upsampled: Any, statistic: Any, threshold: float, connectivity: Any) -> None:
    how = Attention(statistic=statistic, upsampled=upsampled, threshold=threshold, connectivity=connectivity)
    heats = heat(random_maps(500, side=8), statistic)
    found = attend(heats, PX, how)
    same = 0
    for one, box, mask in zip(heats.numpy(), found.boxes.tolist(), found.runs.masks().numpy(), strict=True):
        theirs, their_mask = box_by_scipy(one, PX, how)
        # The two enlarge to the last bits differently: a pixel at the very threshold may fall on either side.
        differ = int((mask != their_mask).sum())
        assert differ <= 4
        same += box == theirs
        assert differ or box == theirs
    assert same >= 490, same


@pytest.mark.parametrize("levels", [256, 16, 3])
def test_otsu_is_opencvs(levels: int) -> None:
    random = np.random.default_rng(2)
    # Two humps of random places and weights, and pixels at random.
    images = [
        np.clip(np.where(random.random((20, 20)) < share, random.normal(a, 20, (20, 20)), random.normal(b, 9, (20, 20))), 0, 255)
        for share, a, b in random.uniform((0, 0, 0), (1, 255, 255), (300, 3))
    ]
    images = [(image // (256 / levels) * (255 // levels)).astype(np.uint8) for image in [*images, *random.uniform(0, 255, (100, 20, 20))]]
    ours = otsu(torch.from_numpy(np.stack(images)))
    for image, found in zip(images, ours.tolist(), strict=True):
        theirs, _ = cv2.threshold(image, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        assert found == theirs or len(np.unique(image)) == 1


@pytest.mark.parametrize(("side", "px"), [(7, 224), (8, 64), (14, 224), (10, 96), (3, 17)])
def test_bytes_are_enlarged_as_opencv_does(side: int, px: int) -> None:
    levels = np.random.default_rng(4).integers(0, 256, (40, side, side)).astype(np.uint8)
    ours = attention.enlarged_levels(torch.from_numpy(levels), px)
    theirs = np.stack([cv2.resize(one, (px, px), interpolation=cv2.INTER_LINEAR) for one in levels])
    np.testing.assert_array_equal(ours.numpy(), theirs)


def test_the_released_box_on_the_maps_of_the_sheet() -> None:
    maps = torch.zeros(1, 2, 7, 7)
    for channel, row, column, value in ((0, 2, 3, 4), (1, 2, 3, 2), (0, 3, 3, 3), (1, 3, 4, 2.5), (1, 5, 5, 5), (0, 0, 0, 1)):
        maps[0, channel, row, column] = value
    heats = heat(maps, "sum")
    levels = (attention.scaled(heats) * 255).floor()[0]
    assert {(y, x): int(levels[y, x]) for y, x in levels.nonzero().tolist()} == {
        (0, 0): 42,
        (2, 3): 255,
        (3, 3): 127,
        (3, 4): 106,
        (5, 5): 212,
    }
    released = Attention(statistic="sum", upsampled="levels", thresholding="otsu", inclusive=False)
    large = attention.enlarged_levels(levels[None], 224)
    assert otsu(large).tolist() == [56]
    for how, sizes, box in ((released, [1548, 3564], [87, 55, 158, 129]), (_fixed(released), [60, 319], [103, 71, 120, 98])):
        found = attend(heats, 224, how)
        labels, _ = labelled(found.runs.masks()[0].numpy())
        assert sorted(np.bincount(labels.ravel())[1:].tolist()) == sizes
        assert found.boxes.tolist() == [box] and not found.empty.any()


def _fixed(how: Attention) -> Attention:
    return Attention(statistic="sum", upsampled="levels", threshold=178 / 255, inclusive=how.inclusive)


def test_a_constant_map_and_a_map_of_one_line_are_the_whole_image() -> None:
    heats = torch.zeros(2, 7, 7)
    assert attend(heats, 14, Attention()).boxes.tolist() == [[0, 0, 14, 14]] * 2
    one_pixel = torch.rand(50, 1, 1, generator=torch.Generator().manual_seed(5)) * 1000
    for upsampled in ("heat", "scaled", "levels", "mask"):
        assert attend(one_pixel, 32, Attention(upsampled=upsampled)).boxes.tolist() == [[0, 0, 32, 32]] * 50
    line = torch.zeros(1, 7, 7)
    line[0, 3] = 1
    for inclusive, box in ((True, [0, 3, 7, 4]), (False, [0, 0, 7, 7])):
        found = attend(line, 7, Attention(upsampled="mask", inclusive=inclusive))
        assert found.boxes.tolist() == [box] and found.empty.tolist() == [not inclusive]


def test_boxes_grow_about_their_middle_and_stay_inside() -> None:
    boxes = torch.tensor([[40.0, 40, 60, 60], [0, 0, 10, 10], [95, 50, 100, 52], [0, 0, 100, 100]])
    found = widened(boxes, 100, margin=0.05, min_side=0.25)
    assert found.tolist() == [[37.5, 37.5, 62.5, 62.5], [0, 0, 25, 25], [75, 38.5, 100, 63.5], [0, 0, 100, 100]]
    torch.testing.assert_close(widened(boxes, 100, margin=0.1, min_side=0.0)[0], torch.tensor([38.0, 38, 62, 62]))


@pytest.mark.parametrize("px", [16, 48, 100])
def test_a_crop_is_what_torch_resizes(px: int) -> None:
    images = torch.rand(3, 2, 40, 60, generator=torch.Generator().manual_seed(3)) * 255
    boxes = torch.tensor([[0, 0, 60, 40], [7, 3, 9, 38], [20, 11, 53, 30]])
    found = cut_out(images, boxes.float(), px)
    for image, (left, top, right, bottom), crop in zip(images, boxes.tolist(), found, strict=True):
        whole = functional.interpolate(image[None, :, top:bottom, left:right], size=(px, px), mode="bilinear", antialias=True)
        torch.testing.assert_close(crop, whole[0], rtol=1e-4, atol=1e-2)


def test_the_values_survive_as_numbers() -> None:
    for how in (
        Attention(),
        Attention(
            statistic="l2", upsampled="mask", thresholding="otsu", threshold=0.3, connectivity=4, inclusive=False, margin=0.05,
            min_side=0.25, per_class=True,
        ),
    ):  # fmt: skip
        assert attention_from(how.numbers()) == how
