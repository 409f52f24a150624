"""Image files to grayscale uint8, refusing what libraries pass over in silence: truncated files, broken chunks, clipped 16-bit values."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

from trainers.errors import DataError

#: Bumped when the same file gives other pixels; part of the key of every decoded-image cache.
DECODER_VERSION = 1
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def read_gray(path: Path) -> np.ndarray:
    """Return an image as stored (no EXIF turn), uint8 (height, width). Raises DataError naming the file and what to do.

    16-bit values are scaled by 255/65535; colours become luma (ITU-R BT.601); an alpha channel is dropped.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"image {path} is missing: copy it again from the release") from None
    except OSError as error:
        raise DataError(f"image {path} cannot be read ({error.strerror}): check the disk and the permissions") from error
    fault = _fault(content)
    if fault is not None:
        raise DataError(f"image {path} {fault}: copy it again from the release")
    kind = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION if content.startswith(_JPEG) else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), kind)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError(f"image {path} cannot be decoded: copy it again from the release")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"image {path} has {pixels.dtype} pixels: convert it to an 8-bit or 16-bit PNG")
    return _eight_bits(_one_channel(pixels))


def shrink(image: np.ndarray, px: int) -> np.ndarray:
    """Resize so that the short side is `px`, aspect kept: by area when shrinking, bilinear when growing."""
    height, width = image.shape
    short = min(height, width)
    if short == px:
        return image
    size = (max(px, round(width * px / short)), max(px, round(height * px / short)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if px < short else cv2.INTER_LINEAR)


def _fault(content: bytes) -> str | None:
    """Say what is wrong with a file's structure, or None."""
    if not content:
        return "is empty (0 bytes)"
    if content.startswith(_JPEG):
        # Entropy-coded data holds no FF D9, so an end marker after the last scan header is the real one, and a thumbnail's is not.
        return None if content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda") else "is a truncated JPEG (it has no end marker)"
    if content.startswith(_PNG):
        return _png_fault(content)
    return None


def _png_fault(content: bytes) -> str | None:
    at = len(_PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 12 + length
        if end > len(content):
            break
        if zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            return "is a damaged PNG (a checksum does not fit)"
        if content[at + 4 : at + 8] == b"IEND":
            return None
        at = end
    return "is a truncated PNG (it has no end)"


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    if channels == 1:
        return pixels[:, :, 0]
    if channels == 2:
        return np.ascontiguousarray(pixels[:, :, 0])
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
