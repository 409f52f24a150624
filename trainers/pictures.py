"""Pictures that a method makes of a few fixed images, as PNG files: what a loss does not show.

A method's `pictures(epoch)` returns uint8 (h, w) or (h, w, 3) by name, of validation images (`shown`), its `overlays(rows)` of test images,
and its `captions` says of each name what it shows. Nothing of a run depends on them: they are made in eval mode, without gradients, and
the random numbers that training draws are where they were. Equal arrays give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from torch import nn

from trainers.data.access import Rows
from trainers.seeding import random_state, set_random_state

#: How many images a method should show: the first of a split, in the order of its index.
SHOWN = 4
#: More pictures at once, or larger ones, are a mistake: a report holds them.
MOST, LARGEST_SIDE = 16, 2048
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_OF_LOOP = re.compile(r"-epoch-\d+$")


def shown(rows: Rows) -> Rows:
    """Return the rows that pictures are made of: the first `SHOWN`, the same ones in every run and at every epoch."""
    return rows.take(np.arange(min(SHOWN, len(rows))))


def drawn(module: nn.Module, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, bytes]:
    """Return what a method's pictures are as PNG files by name, `module` being in eval mode meanwhile.

    Raises TypeError or ValueError when a method makes what is no picture.
    """
    training, state = module.training, random_state()
    module.eval()
    try:
        with torch.no_grad():
            made = make()
    finally:
        module.train(training)
        set_random_state(state)
    if len(made) > MOST:
        raise ValueError(f"pictures: {len(made)} at once, at most {MOST} are kept; show fewer images, or put several into one picture")
    return {name: _png(name, picture) for name, picture in sorted(made.items())}


def _png(name: str, picture: np.ndarray) -> bytes:
    """Encode uint8 (h, w), or (h, w, 3) in the order red, green, blue. The file holds pixels and no time."""
    if not _NAME.fullmatch(name) or _OF_LOOP.search(name):
        raise ValueError(
            f"pictures: '{name}' is no name for one: lower case letters, digits, - and _, at most 64, and no epoch, which is added"
        )
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        raise TypeError(f"pictures: '{name}' is {getattr(picture, 'dtype', type(picture).__name__)}, and a picture is an array of uint8")
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise ValueError(f"pictures: '{name}' has the shape {picture.shape}, and a picture is (h, w) or (h, w, 3)")
    if not 0 < min(picture.shape[:2]) <= max(picture.shape[:2]) <= LARGEST_SIDE:
        raise ValueError(f"pictures: '{name}' is {picture.shape[1]} x {picture.shape[0]} pixels, and a side has 1 to {LARGEST_SIDE}")
    done, encoded = cv2.imencode(".png", picture if picture.ndim == 2 else picture[:, :, ::-1])
    assert done
    return encoded.tobytes()
