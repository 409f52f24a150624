"""PNG: every checksum is looked at, which decoders leave to the caller."""

from __future__ import annotations

import zlib

import cv2
import numpy as np

from trainers.data.formats.faults import Fault, refuse_size

START = b"\x89PNG\r\n\x1a\n"
_DAMAGED = "is a damaged PNG (a checksum does not fit)"


def read(content: bytes) -> np.ndarray:
    """Return the pixels of a PNG, uint8 or uint16, with 1 to 4 channels (blue first). Raises Fault."""
    _refuse_damage(content)
    height, width = (int.from_bytes(content[at : at + 4], "big") for at in (20, 16))
    refuse_size(height, width)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[:2] != (height, width):
        raise Fault("is a damaged PNG (its data does not fit its header)")
    return pixels


def _refuse_damage(content: bytes) -> None:
    at = len(START)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 12 + length
        if end > len(content):
            break
        kind = content[at + 4 : at + 8]
        if zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise Fault(_DAMAGED)
        if (kind == b"IHDR") != (at == len(START)):
            raise Fault("is a damaged PNG (its header is not where it has to be)")
        if kind == b"IEND":
            return
        at = end
    raise Fault("is a truncated PNG (it has no end)")
