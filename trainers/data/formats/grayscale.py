"""From the numbers that a DICOM radiograph stores to what is meant to be seen: every step is a function of one number, so it is a table.

Modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2), MONOCHROME1 inverted, padding black (C.7.5.1.1.2). The result is
scaled by what the file can store, never by what is largest in the image: two images of one detector stay comparable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trainers.data.formats.faults import Fault

if TYPE_CHECKING:
    from pydicom import Dataset

_REMEDY = "have it exported again, or leave it out of the data set"
_FIRST_OVERLAY, _LAST_OVERLAY, _OVERLAY_BIT = 0x6000, 0x601E, 0x0102


def shown(image: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return gray values, uint8 (height, width), of stored ones. Raises Fault."""
    values, low = _within_bits(image, stored)
    bits = int(image.BitsStored)
    numbers = np.arange(low, low + (1 << bits), dtype=np.float64)
    gray = _to_unit(image, numbers)
    if image.PhotometricInterpretation == "MONOCHROME1":
        gray = 1 - gray
    gray[_padding(image, numbers)] = 0
    return np.round(gray * 255).astype(np.uint8)[values - low]


def _within_bits(image: Dataset, stored: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the stored numbers (int64 where signed) and the lowest that there may be. Raises Fault when they need more bits."""
    bits = int(image.BitsStored)
    unsigned = stored.view(f"u{stored.dtype.itemsize}")
    if shift := int(image.HighBit) + 1 - bits:
        unsigned = unsigned >> shift
    above = unsigned >> bits if bits < 8 * stored.dtype.itemsize else np.zeros((1, 1), unsigned.dtype)
    if not image.PixelRepresentation:
        if above.any() and not _has_overlay(image):
            raise Fault(f"holds numbers of more than the {bits} bits that it says it stores")
        return unsigned & ((1 << bits) - 1), 0
    sign = (unsigned >> (bits - 1)) & 1
    extended = (1 << (8 * stored.dtype.itemsize - bits)) - 1
    if not (((above == 0) | ((above == extended) & (sign == 1))).all() or _has_overlay(image)):
        raise Fault(f"holds numbers of more than the {bits} bits that it says it stores")
    half = 1 << (bits - 1)
    return ((unsigned & ((1 << bits) - 1)).astype(np.int64) ^ half) - half, -half


def _has_overlay(image: Dataset) -> bool:
    """Tell whether unused high bits hold an overlay, as they may in files from before 2004."""
    groups = range(_FIRST_OVERLAY, _LAST_OVERLAY + 1, 2)
    return any((group, _OVERLAY_BIT) in image and int(image[group, _OVERLAY_BIT].value or 0) > 0 for group in groups)


def _to_unit(image: Dataset, numbers: np.ndarray) -> np.ndarray:
    """Return what each stored number is shown as, from 0 (least) to 1."""
    values, low, high = _modality(image, numbers)
    table = _first(image.get("VOILUTSequence"))
    if table is not None:
        entries, first, most = _table(image, table, "VOI", signed=values.min() < 0)
        return entries[np.clip(np.round(values) - first, 0, len(entries) - 1).astype(np.int64)] / most
    center, width = _first(image.get("WindowCenter")), _first(image.get("WindowWidth"))
    if center is not None and width is not None:
        return _window(values, float(center), float(width), str(image.get("VOILUTFunction") or "LINEAR"))
    return np.clip((values - low) / (high - low), 0, 1)


def _modality(image: Dataset, numbers: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return what stored numbers mean, and the lowest and highest that they can mean."""
    table = _first(image.get("ModalityLUTSequence"))
    if table is not None:
        entries, first, most = _table(image, table, "modality", signed=bool(image.PixelRepresentation))
        return entries[np.clip(numbers - first, 0, len(entries) - 1).astype(np.int64)], 0.0, most
    slope, intercept = image.get("RescaleSlope"), image.get("RescaleIntercept")
    slope = 1.0 if slope in (None, "") else float(slope)
    intercept = 0.0 if intercept in (None, "") else float(intercept)
    if not (np.isfinite([slope, intercept]).all() and slope):
        raise Fault(f"has a rescale slope of {slope:g} and an intercept of {intercept:g}", _REMEDY)
    values = numbers * slope + intercept
    return values, float(values.min()), float(values.max())


def _window(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Return values from 0 to 1 through a window (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if not np.isfinite([center, width]).all() or width <= 0 or (function == "LINEAR" and width < 1):
        raise Fault(f"has a window of width {width:g} around {center:g}", _REMEDY)
    if function == "SIGMOID":
        # Far outside the window the exponent is large, and the value is 0 all the same.
        return 1 / (1 + np.exp(np.minimum(-4 * (values - center) / width, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise Fault(f"has the VOI LUT function '{function}', and may have LINEAR, LINEAR_EXACT or SIGMOID", _REMEDY)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _table(image: Dataset, item: Dataset, name: str, *, signed: bool) -> tuple[np.ndarray, int, float]:
    """Return the entries of a lookup table, the number that the first one stands for, and the largest that an entry may be."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or len(descriptor) != 3 or data is None:
        raise Fault(f"has a {name} LUT that is not whole", _REMEDY)
    count, first, bits = (int(number) for number in descriptor)
    count = count & 0xFFFF or 1 << 16
    if not 8 <= bits <= 16:
        raise Fault(f"has a {name} LUT with entries of {bits} bits", _REMEDY)
    if signed and first > 0x7FFF:
        first -= 1 << 16
    entries = _entries(image, data, count)
    if len(entries) != count or entries.max() > (1 << bits) - 1:
        raise Fault(f"has a {name} LUT that does not fit its descriptor ({len(entries)} entries, {count} declared, {bits} bits)", _REMEDY)
    return entries.astype(np.float64), first, float((1 << bits) - 1)


def _entries(image: Dataset, data: Any, count: int) -> np.ndarray:
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
    order = "<" if image.original_encoding[1] else ">"
    # One byte an entry where there are as many bytes as entries (and one more to make them even).
    return np.frombuffer(data, np.uint8)[:count] if len(data) <= count + count % 2 else np.frombuffer(data, f"{order}u2")


def _padding(image: Dataset, numbers: np.ndarray) -> np.ndarray:
    value, limit = image.get("PixelPaddingValue"), image.get("PixelPaddingRangeLimit")
    if value in (None, ""):
        return np.zeros(len(numbers), bool)
    first, last = int(value), int(value if limit in (None, "") else limit)
    return (numbers >= min(first, last)) & (numbers <= max(first, last))


def _first(value: Any) -> Any:
    """Return the first of several values, the value itself, or None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return value
    return value[0] if len(value) else None
