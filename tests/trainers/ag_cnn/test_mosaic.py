"""What the public code makes of an image before it cuts it: parity figures of its mosaic and of its bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.ag_cnn.mosaic import tile, wrapped, wrapped_mosaic


def test_the_tile_is_every_third_row_of_the_second_channel() -> None:
    ramp = torch.arange(3 * 224 * 224, dtype=torch.float64).reshape(1, 3, 224, 224)
    found = tile(ramp)[0].long()
    assert found.shape == (3, 75, 75)
    channel, row, column = found // 224**2, found // 224 % 224, found % 224
    for i, j in ((1, 1), (37, 37), (74, 74)):
        assert set(channel[:, i, j].tolist()) == {1} and set(row[:, i, j].tolist()) == {3 * i - 1}
        assert column[:, i, j].tolist() == [3 * j - 2, 3 * j - 1, 3 * j]
    assert float((channel == 1).float().mean()) == pytest.approx(0.9867, abs=1e-4)
    assert float((channel == 0).float().mean()) == pytest.approx(0.0133, abs=1e-4)
    # The same by NumPy, as the program has it.
    whole = ramp[0].numpy().reshape(224, 224, 3)[int(224 * 0.334) : int(224 * 0.667), int(224 * 0.334) : int(224 * 0.667)]
    np.testing.assert_array_equal(found.numpy(), whole.transpose(2, 0, 1).astype(np.int64))


def test_bytes_wrap_as_they_do_on_x86() -> None:
    pixels = torch.tensor([0, 0.2, 0.456, 0.5, 0.8, 1], dtype=torch.float64)
    assert wrapped((pixels - 0.456) / 0.224).tolist() == [247, 220, 0, 50, 137, 109]


def test_patches_are_levels_of_the_size_of_the_input() -> None:
    normal = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0, 224, 224], [87, 55, 158, 129]])
    found = wrapped_mosaic(normal, boxes, 224)
    assert found.shape == (2, 3, 224, 224)
    assert float(found.min()) >= 0 and float(found.max()) <= 255 and torch.equal(found, found.round())
