"""Masks of structures as image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np


def read_mask(files: Sequence[Path]) -> np.ndarray:
    """Return what any of some mask files marks, uint8 (height, width), 1 where a pixel is above 0. Raises DataError.

    The masks of a left and a right part are joined as truth values: added as bytes, 128 + 128 would be 0.
    """
    import numpy as np

    joined: np.ndarray | None = None
    for file in files:
        marked = _marked(file)
        if joined is not None and joined.shape != marked.shape:
            raise DataError(f"mask {file} is {marked.shape}, and {files[0]} is {joined.shape}: masks of one image have one shape")
        joined = marked if joined is None else joined | marked
    if joined is None:
        raise ValueError("a mask has one file or more")
    return joined.astype(np.uint8)


def _marked(file: Path) -> np.ndarray:
    import cv2
    import numpy as np

    try:
        pixels = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except FileNotFoundError:
        raise DataError(f"mask {file} is missing: copy it again from the release") from None
    except (OSError, cv2.error) as error:
        raise DataError(f"mask {file} cannot be read: copy it again from the release") from error
    if pixels is None:
        raise DataError(f"mask {file} cannot be decoded: copy it again from the release")
    # An alpha channel is opaque everywhere, and marks nothing.
    return np.asarray(pixels > 0 if pixels.ndim == 2 else (pixels[:, :, :3] > 0).any(axis=2))
