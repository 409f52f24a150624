"""Runs above a threshold are those of the enlarged map, which is drawn here and not there; ties by rounding set aside, exact ties not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trainers.parts.attention import Attention, attend, enlarged, heat, masks_of, runs_in, scaled
from trainers.parts.regions import largest_boxes
from trainers.parts.runs import Enlarged, runs_of

#: Two ways to enlarge a map of float32 round differently by this much of its range.
ROUNDING = 2e-6


def test_masks_survive_as_runs() -> None:
    masks = torch.from_numpy(np.random.default_rng(0).random((200, 6, 9)) < np.linspace(0, 1, 200)[:, None, None])
    runs = runs_of(masks)
    assert torch.equal(runs.masks(), masks)
    # Row by row, by hand.
    found: list[tuple[int, int, int]] = []
    for line, row in enumerate(masks.reshape(-1, 9).tolist()):
        text = "".join("x" if pixel else " " for pixel in row)
        at = 0
        for run in text.split():
            at = text.index(run, at)
            found.append((line, at, at + len(run)))
            at += len(run)
    assert list(zip(runs.line.tolist(), runs.start.tolist(), runs.stop.tolist(), strict=True)) == found


def made(kind: str, count: int, height: int, width: int, seed: int) -> torch.Tensor:
    """Return heat maps: of noise, of few whole numbers (flats and ties), or smooth and far from 0 (little contrast in float32)."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "whole":
        return torch.randint(0, 4, (count, height, width), generator=generator).float()
    noise = torch.randn(count, height, width, generator=generator)
    return noise.relu() if kind == "noise" else noise.cumsum(1).cumsum(2) / 10 + 50


@pytest.mark.parametrize("kind", ["noise", "whole", "smooth"])
@pytest.mark.parametrize("upsampled", ["heat", "scaled"])
def test_runs_are_those_of_the_enlarged_map(kind: str, upsampled: Any) -> None:
    sizes = [(7, 7, 224, 4), (8, 8, 64, 20), (3, 5, 17, 60), (1, 4, 9, 60), (6, 1, 10, 60), (1, 1, 5, 4), (7, 7, 7, 60), (12, 9, 8, 60)]
    other = maps = 0
    for seed, (height, width, px, count) in enumerate(sizes):
        heats = made(kind, count, height, width, seed)
        levels = scaled(enlarged(heats, px)) if upsampled == "heat" else enlarged(scaled(heats), px)
        rounding = ROUNDING * (100 if kind == "smooth" else 1)
        for threshold in (0.0, 0.3, 0.7, 0.95, 1.0):
            how = Attention(upsampled=upsampled, threshold=threshold)
            runs, masks = runs_in(heats, px, how), masks_of(heats, px, how)
            differ = runs.masks() != masks
            assert not (differ & ((levels - threshold).abs() > rounding)).any()
            same = ~differ.flatten(1).any(1)
            drawn = runs_of(masks)
            for connectivity in (4, 8):
                for ours, theirs in zip(largest_boxes(runs, connectivity), largest_boxes(drawn, connectivity), strict=True):
                    assert torch.equal(ours[same], theirs[same])
            maps, other = maps + count, other + int((~same).sum())
            assert threshold < 1 or not len(runs.line)
    # What rounding decides is rare, or the comparison of boxes would be empty.
    assert maps == 1640 and other < 0.2 * maps, (maps, other)


@pytest.mark.parametrize("upsampled", ["heat", "scaled"])
def test_pixels_that_are_the_threshold_are_not_above_it(upsampled: Any) -> None:
    # Quarters at 7 and 8 to powers of two: every product and sum is exact, and so are ties.
    generator = torch.Generator().manual_seed(3)
    for side, px in ((7, 224), (8, 64)):
        heats = torch.randint(0, 5, (20, side, side), generator=generator).float()
        heats[:, 0, 0], heats[:, 0, 1] = 0, 4
        for threshold in (0.25, 0.5, 0.75):
            how = Attention(upsampled=upsampled, threshold=threshold)
            assert int((scaled(enlarged(heats, px)) == threshold).sum()) > 300
            assert torch.equal(runs_in(heats, px, how).masks(), masks_of(heats, px, how))


def test_extremes_are_those_of_the_enlarged_map() -> None:
    for height, width, px in ((7, 7, 224), (3, 5, 17), (1, 1, 5), (9, 9, 4)):
        heats = torch.randn(50, height, width, generator=torch.Generator().manual_seed(px))
        low, high = Enlarged(heats, px).extremes()
        large = enlarged(heats, px)
        torch.testing.assert_close(low, large.amin((1, 2)), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(high, large.amax((1, 2)), rtol=1e-6, atol=1e-6)


def test_a_map_that_went_wrong_has_no_region() -> None:
    heats = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0))
    heats[0, 3, 3], heats[1, 3, 3] = torch.nan, torch.inf
    for upsampled in ("heat", "scaled"):
        found = attend(heats, 32, Attention(upsampled=upsampled))
        assert found.empty.tolist() == [True, True, False]
        assert found.boxes[:2].tolist() == [[0, 0, 32, 32]] * 2


def test_the_largest_of_few_or_many_channels_is_the_same() -> None:
    for channels in (1, 63, 64, 65, 130, 256):
        maps = torch.randn(2, channels, 3, 3, generator=torch.Generator().manual_seed(channels))
        assert torch.equal(heat(maps, "max"), maps.abs().amax(1))
