"""Phase-scrambled images: the same amplitude spectrum with random phases, so that textures stay and anatomy goes.

What a method learns from them is what it could learn without anatomy: the control arm of a pretraining study.
"""

from __future__ import annotations

import numpy as np

from trainers.data.access import ImageStore
from trainers.data.streams import key


def scrambled(image: np.ndarray, seed: int) -> np.ndarray:
    """Return an image, uint8 (height, width), with its phases replaced by those of white noise; mean kept, clipped to 0..255."""
    noise = np.random.Generator(np.random.Philox(key=seed)).standard_normal(image.shape)
    turned = np.fft.rfft2(noise)
    spectrum = np.fft.rfft2(image.astype(np.float64))
    # The phases of a real image's transform have the symmetry that makes the result real.
    mixed = np.abs(spectrum) * turned / np.maximum(np.abs(turned), np.finfo(np.float64).tiny)
    mixed[0, 0] = spectrum[0, 0]
    return np.clip(np.rint(np.fft.irfft2(mixed, s=image.shape)), 0, 255).astype(np.uint8)


class ScrambledStore:
    """A store whose images are scrambled, each in one way whatever the epoch."""

    def __init__(self, store: ImageStore, seed: int) -> None:
        self.px = store.px
        self._store = store
        self._seed = seed
        self._known: dict[int, np.ndarray] = {}

    def image(self, position: int) -> np.ndarray:
        """Return one scrambled image, uint8 (height, width). Raises DataError naming the file when it cannot be decoded."""
        position = int(position)
        # The inner store is asked every time: it is what keeps a shut split shut.
        image = self._store.image(position)
        found = self._known.get(position)
        if found is None:
            found = scrambled(image, key(self._seed, position))
            # Two threads may both have made it, and made the same.
            if len(self._known) * image.nbytes > 512 * 2**20:
                self._known.clear()
            self._known[position] = found
        return found

    def file_shape(self, position: int) -> tuple[int, int]:
        """Return the (height, width) of the file on disk."""
        return self._store.file_shape(position)
