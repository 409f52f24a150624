"""JPEG by libjpeg-turbo, every warning of which is a fault: it would fill what it cannot read with grey and go on."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from trainers.data.formats.faults import Fault, refuse_size

START = b"\xff\xd8\xff"


def read(content: bytes) -> np.ndarray:
    """Return the luma of a JPEG as stored (no EXIF turn), uint8 (height, width). Raises Fault."""
    # Entropy-coded data holds no FF D9, so an end marker after the last scan header is the real one, and a thumbnail's is not.
    if content.rfind(b"\xff\xd9") <= content.rfind(b"\xff\xda"):
        raise Fault("is a truncated JPEG (it has no end marker)")
    refuse_size(*(frame_size(content) or (0, 0)))
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(content, strict=True)
        if colours in ("Gray", "YCbCr"):
            return simplejpeg.decode_jpeg(content, colorspace="GRAY", strict=True)[:, :, 0]
        return cv2.cvtColor(simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True), cv2.COLOR_RGB2GRAY)
    except ValueError as error:
        raise Fault(f"is a damaged JPEG ({_said(error)})") from error


def frame_size(content: bytes) -> tuple[int, int] | None:
    """Return the (height, width) in the frame header of a JPEG, JPEG-LS or lossless JPEG stream, or None where there is none."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            return int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 7 : at + 9], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None


def _said(error: ValueError) -> str:
    return str(error).strip().rstrip(".") or "it cannot be decoded"
