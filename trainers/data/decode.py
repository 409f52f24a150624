"""Image files to grayscale uint8, refusing what libraries pass over in silence: truncated files, broken checksums, clipped 16-bit values.

What a file is stands in its first bytes, not in its name; `.IMG` of JSRT alone has no header and is known by its name. Each family of files
is a module of `formats`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from trainers.data.formats import jpeg, png, raw
from trainers.data.formats.faults import Fault
from trainers.errors import DataError

#: Bumped when the same file gives other pixels; part of the key of every decoded-image cache.
DECODER_VERSION = 2
#: What 16-bit files store unless it is said how much less.
FULL_BITS = 16


def read_gray(path: Path, bits: int = FULL_BITS) -> np.ndarray:
    """Return an image as stored (no EXIF turn), uint8 (height, width). Raises DataError naming the file and what to do.

    `bits` is how many bits the numbers of a 16-bit PNG or TIFF have: they are scaled by 255 / (2^bits - 1), and a larger one is a fault.
    Colours become luma (ITU-R BT.601); an alpha channel is dropped. DICOM is shown as it says itself (`formats.dicom`).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"image {path} is missing: copy it again from the release") from None
    except OSError as error:
        raise DataError(f"image {path} cannot be read ({error.strerror}): check the disk and the permissions") from error
    try:
        return np.ascontiguousarray(_gray(content, path.suffix.lower(), bits))
    except Fault as fault:
        raise DataError(f"image {path} {fault.what}: {fault.remedy}") from fault
    except MemoryError:
        raise
    except Exception as error:
        # Decoders of third parties raise whatever they meet in a damaged file.
        said = " ".join(str(error).split())[:200]
        raise DataError(f"image {path} cannot be decoded ({type(error).__name__}: {said}): copy it again from the release") from error


def shrink(image: np.ndarray, px: int) -> np.ndarray:
    """Resize so that the short side is `px`, aspect kept: by area when shrinking, bilinear when growing."""
    height, width = image.shape
    short = min(height, width)
    if short == px:
        return image
    size = (max(px, round(width * px / short)), max(px, round(height * px / short)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if px < short else cv2.INTER_LINEAR)


def _gray(content: bytes, suffix: str, bits: int) -> np.ndarray:
    if not content:
        raise Fault("is empty (0 bytes)")
    if content.startswith(jpeg.START):
        return jpeg.read(content)
    if content.startswith(png.START):
        return _eight_bits(_one_channel(png.read(content)), bits)
    if suffix == raw.SUFFIX:
        return raw.read(content)
    # What few data sets have is imported by those that have it.
    from trainers.data.formats import dicom, others

    if dicom.is_dicom(content):
        return dicom.read(content)
    return _eight_bits(_one_channel(others.read(content)), bits)


def _one_channel(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    if channels in (1, 2):
        return pixels[:, :, 0]
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)


def _eight_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    most = (1 << bits) - 1
    if bits < FULL_BITS and (largest := int(pixels.max())) > most:
        raise Fault(f"holds the number {largest}, and its card says that it has {bits} bits (0 to {most})", "correct the bits in its card")
    return ((pixels.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
