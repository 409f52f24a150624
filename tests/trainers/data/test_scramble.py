from __future__ import annotations

import numpy as np
import pytest

from tests.trainers.data.test_transforms import Memory
from trainers.data.scramble import ScrambledStore, scrambled
from trainers.errors import SplitClosed

RNG = np.random.default_rng(0)
#: Low contrast, so that nothing is clipped, with a shape that anatomy would have: a bright disc.
ROWS, COLUMNS = np.indices((48, 61))
DISC = (110 + 30 * (np.hypot(ROWS - 24, COLUMNS - 30) < 12) + RNG.normal(0, 2, ROWS.shape)).astype(np.uint8)


def test_the_amplitude_spectrum_and_the_mean_stay() -> None:
    other = scrambled(DISC, 3)
    assert other.min() > 0
    assert other.max() < 255
    before, after = np.abs(np.fft.rfft2(DISC.astype(float))), np.abs(np.fft.rfft2(other.astype(float)))
    # Rounding to whole levels adds white noise of amplitude sqrt(n / 12).
    assert np.abs(after - before).max() < 5 * np.sqrt(DISC.size / 12)
    assert after[0, 0] == pytest.approx(before[0, 0], rel=1e-3)


def test_phases_do_not_stay() -> None:
    other = scrambled(DISC, 3)
    strong = np.abs(np.fft.rfft2(DISC.astype(float)))[:, 1:] > 500
    turned = np.angle(np.fft.rfft2(DISC.astype(float))[:, 1:] / np.fft.rfft2(other.astype(float))[:, 1:])[strong]
    assert strong.sum() > 50
    assert np.abs(np.exp(1j * turned).mean()) < 5 / np.sqrt(strong.sum())
    inside = np.hypot(ROWS - 24, COLUMNS - 30) < 12
    assert DISC[inside].mean() - DISC[~inside].mean() > 25
    assert abs(float(other[inside].mean()) - float(other[~inside].mean())) < 15


def test_an_image_is_scrambled_in_one_way_and_each_in_its_own() -> None:
    store = ScrambledStore(Memory([DISC, DISC]), seed=1)
    first = store.image(0).copy()
    np.testing.assert_array_equal(store.image(0), first)
    np.testing.assert_array_equal(ScrambledStore(Memory([DISC, DISC]), seed=1).image(0), first)
    assert (store.image(1) != first).mean() > 0.5
    assert (ScrambledStore(Memory([DISC, DISC]), seed=2).image(0) != first).mean() > 0.5
    assert store.file_shape(1) == DISC.shape
    assert store.px == 48


def test_a_shut_image_stays_shut_although_it_is_remembered() -> None:
    class Gate(Memory):
        shut = False

        def image(self, position: int) -> np.ndarray:
            if self.shut:
                raise SplitClosed("shut")
            return super().image(position)

    gate = Gate([DISC])
    store = ScrambledStore(gate, seed=1)
    store.image(0)
    gate.shut = True
    with pytest.raises(SplitClosed):
        store.image(0)
