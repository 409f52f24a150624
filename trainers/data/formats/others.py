"""What Pillow reads: GIF (the masks of SCR), TIFF, BMP, WebP, JPEG 2000. It refuses files that end too early."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from trainers.data.formats.faults import MOST_PIXELS, Fault, refuse_size

_CONVERT = "convert it to an 8-bit or 16-bit PNG"
_FORMATS = ("GIF", "TIFF", "BMP", "WEBP", "JPEG2000", "PPM")
_SIXTEEN = ("I;16", "I;16B", "I;16L")


def read(content: bytes) -> np.ndarray:
    """Return the pixels of an image, uint8 with 1 or 3 channels (blue first), or uint16 with one. Raises Fault."""
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise Fault("cannot be decoded (it is no image of a kind that is known here)") from None
    except Image.DecompressionBombError as error:
        raise Fault(f"declares more pixels than any radiograph has ({MOST_PIXELS:,})") from error
    with image:
        refuse_size(image.height, image.width)
        if (frames := getattr(image, "n_frames", 1)) != 1:
            raise Fault(f"holds {frames} images, and one is expected", _CONVERT)
        if image.mode in ("F", "I"):
            raise Fault(f"has {'float32' if image.mode == 'F' else 'int32'} pixels", _CONVERT)
        if image.mode in _SIXTEEN:
            return np.asarray(image).astype(np.uint16)
        if image.mode in ("1", "L", "LA"):
            return np.asarray(image.convert("L"))
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
