"""JSRT's `.IMG`: 2048 x 2048 pixels of 12 bits as big-endian 16-bit numbers without a header, white where the number is small."""

from __future__ import annotations

import numpy as np

from trainers.data.formats.faults import Fault

SIDE = 2048
SIZE = SIDE * SIDE * 2
SUFFIX = ".img"
_MOST = 4095


def read(content: bytes) -> np.ndarray:
    """Return a radiograph of JSRT with black where the film is black, uint8 (2048, 2048). Raises Fault.

    The numbers have no checksum. What can be seen is a size that is not the layout's and numbers of more than 12 bits (an order of bytes
    that was turned around makes them).
    """
    if len(content) != SIZE:
        raise Fault(f"has {len(content):,} bytes, and an .IMG of JSRT has {SIZE:,} (2048 x 2048 pixels of 16 bits)")
    pixels = np.frombuffer(content, ">u2").reshape(SIDE, SIDE)
    most = int(pixels.max())
    if most > _MOST:
        raise Fault(f"holds the number {most}, and an .IMG of JSRT has 12 bits (0 to {_MOST}), big-endian")
    return _TABLE[pixels]


_TABLE = np.round((_MOST - np.arange(_MOST + 1)) * (255 / _MOST)).astype(np.uint8)
