"""DICOM radiographs: stored values found strictly, then shown as the file says (`grayscale.py`)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from trainers.data.formats import jpeg, rle
from trainers.data.formats.faults import COPY_AGAIN, Fault, refuse_size
from trainers.data.formats.grayscale import shown

if TYPE_CHECKING:
    from pydicom import Dataset

_MAGIC, _MAGIC_AT = b"DICM", 128
#: Files of old tools start with their first element: group 0002 or 0008, little-endian.
_BARE = (b"\x02\x00\x00\x00", b"\x08\x00\x00\x00", b"\x02\x00\x10\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00")
_JPEG_BASELINE, _JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_JPEG_FRAMES = {_JPEG_BASELINE, _JPEG_EXTENDED, *(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81))}
_RLE = "1.2.840.10008.1.2.5"
_J2K = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
#: Ends a codestream of JPEG, JPEG-LS and JPEG 2000 alike.
_END = b"\xff\xd9"
_CODESTREAM = b"\xff\x4f\xff\x51"
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_EXPORT = "have it exported again, or leave it out of the data set"
_T = TypeVar("_T")
#: Bytes after the pixels that are padding; a whole row more is a header that does not fit.
_PADDING = 16


def is_dicom(content: bytes) -> bool:
    """Tell whether bytes start as a DICOM file does, with or without its preamble."""
    return content[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC or content[:4] in _BARE


def read(content: bytes) -> np.ndarray:
    """Return a DICOM radiograph as it is meant to be seen, uint8 (height, width). Raises Fault.

    Modality LUT or rescale, then VOI LUT or the first window, MONOCHROME1 inverted, padding black (DICOM PS3.3 C.11 and C.7.6.3).
    """
    image = _dataset(content)
    syntax = _refuse_other_kinds(image)
    stored = _stored(image, syntax)
    photometric = str(image.PhotometricInterpretation)
    if photometric in _GRAY:
        return shown(image, stored)
    if photometric == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        if not image.original_encoding[1]:
            raise Fault("has a palette in big-endian, which is not read here", _EXPORT)
        # Entries have 16 bits; those of 8 stand in both bytes.
        stored = _quietly(lambda: apply_color_lut(stored, image))
        bits = 8 * stored.dtype.itemsize
    else:
        bits = int(image.BitsStored)
    return cv2.cvtColor(np.round(stored * (255 / ((1 << bits) - 1))).astype(np.uint8), cv2.COLOR_RGB2GRAY)


def _dataset(content: bytes) -> Dataset:
    from pydicom import config, dcmread

    # Values that the standard does not allow are the rule in old files; what matters here is checked here.
    config.settings.reading_validation_mode = config.IGNORE
    image = _quietly(lambda: dcmread(io.BytesIO(content), force=True))
    if "PixelData" not in image:
        raise Fault("is a DICOM file without pixel data", COPY_AGAIN)
    for name in ("Rows", "Columns", "BitsAllocated"):
        if image.get(name) in (None, ""):
            raise Fault(f"is a DICOM file without {name}", COPY_AGAIN)
    if not image.get("BitsStored"):
        image.BitsStored = image.BitsAllocated
    if image.get("HighBit") in (None, ""):
        image.HighBit = image.BitsStored - 1
    if not image.get("SamplesPerPixel"):
        image.SamplesPerPixel = 1
    if image.get("PixelRepresentation") in (None, ""):
        image.PixelRepresentation = 0
    if not image.get("PhotometricInterpretation"):
        image.PhotometricInterpretation = "MONOCHROME2" if image.SamplesPerPixel == 1 else "RGB"
    return image


def _refuse_other_kinds(image: Dataset) -> str:
    """Return the transfer syntax. Raises Fault for what is no single radiograph of up to 16 bits."""
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = getattr(image, "file_meta", None)
    syntax = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if not syntax:
        syntax = ImplicitVRLittleEndian if image.original_encoding[0] else ExplicitVRLittleEndian
        image.file_meta = meta if meta is not None else _no_meta()
        image.file_meta.TransferSyntaxUID = syntax
    refuse_size(int(image.Rows), int(image.Columns))
    frames = image.get("NumberOfFrames")
    if frames not in (None, "") and int(frames) != 1:
        raise Fault(
            f"holds {int(frames)} frames, and a radiograph is one", "leave it out of the data set, or export the frame that is meant"
        )
    if image.BitsAllocated not in (8, 16) or not 1 <= image.BitsStored <= image.HighBit + 1 <= image.BitsAllocated:
        what = f"{image.BitsStored} of {image.BitsAllocated} bits (the highest is bit {image.HighBit})"
        raise Fault(f"has pixels of {what}, and 8 or 16 bits are expected", _EXPORT)
    photometric, samples = str(image.PhotometricInterpretation), image.SamplesPerPixel
    if photometric not in (*_GRAY, *_COLOURS, "PALETTE COLOR"):
        raise Fault(f"has the photometric interpretation '{photometric}', which is unknown here", _EXPORT)
    if samples != (3 if photometric in _COLOURS else 1):
        raise Fault(f"has {samples} samples a pixel, which does not fit {photometric}", COPY_AGAIN)
    return syntax


def _no_meta() -> Any:
    from pydicom.dataset import FileMetaDataset

    return FileMetaDataset()


def _stored(image: Dataset, syntax: str) -> np.ndarray:
    """Return what is stored, as the file's integers: (height, width), or (height, width, 3) as red, green, blue."""
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    shape = (int(image.Rows), int(image.Columns))
    uid = UID(syntax)
    if not uid.is_transfer_syntax:
        raise Fault(f"has the unknown transfer syntax {syntax}", _EXPORT)
    if not uid.is_encapsulated:
        _refuse_other_length(image)
        if image.PhotometricInterpretation in _GRAY and (image.BitsAllocated == 16 or image.original_encoding[1]):
            return _plain(image, shape)
    elif syntax not in {*_JPEG_FRAMES, *_J2K, _RLE}:
        raise Fault(f"has the transfer syntax '{uid.name}', which cannot be decoded here", _EXPORT)
    else:
        frame = _frame(image)
        if syntax in _JPEG_FRAMES:
            _refuse_other_frame(shape, frame, jpeg.frame_size(frame))
        elif syntax in _J2K:
            _refuse_other_frame(shape, frame, _j2k_size(frame))
        if syntax in (_JPEG_BASELINE, _JPEG_EXTENDED) and image.BitsStored == 8 and image.SamplesPerPixel == 1:
            return jpeg.read(frame)
        if syntax == _RLE and image.SamplesPerPixel == 1:
            values = rle.read(frame, shape, int(image.BitsAllocated))
            return values.view(f"i{values.dtype.itemsize}") if image.PixelRepresentation else values
    pixels = _quietly(lambda: pixel_array(image))
    if pixels.shape[:2] != shape:
        raise Fault(f"holds {pixels.shape[1]} x {pixels.shape[0]} pixels, and its header says {shape[1]} x {shape[0]}")
    return pixels


def _plain(image: Dataset, shape: tuple[int, int]) -> np.ndarray:
    """Return uncompressed gray values with all their bits: pydicom clears those that are not said to be stored."""
    order = "<" if image.original_encoding[1] else ">"
    kind = f"{order}{'i' if image.PixelRepresentation else 'u'}{image.BitsAllocated // 8}"
    values = np.frombuffer(image.PixelData, kind, count=shape[0] * shape[1]).reshape(shape)
    return values.astype(values.dtype.newbyteorder("="))


def _refuse_other_length(image: Dataset) -> None:
    samples = 2 if image.PhotometricInterpretation == "YBR_FULL_422" else int(image.SamplesPerPixel)
    expected = int(image.Rows) * int(image.Columns) * samples * int(image.BitsAllocated) // 8
    found = len(image.PixelData)
    if not 0 <= found - expected < _PADDING:
        what = "is truncated" if found < expected else "does not fit its header"
        raise Fault(f"{what} ({found:,} bytes of pixels, and {image.Columns} x {image.Rows} make {expected:,})")


def _frame(image: Dataset) -> bytes:
    from pydicom.encaps import generate_frames

    frames = list(_quietly(lambda: list(generate_frames(image.PixelData, number_of_frames=1))))
    if len(frames) != 1 or not frames[0]:
        raise Fault(f"is damaged (it says that it holds one frame, and holds {len(frames)})")
    return frames[0]


def _refuse_other_frame(shape: tuple[int, int], frame: bytes, declared: tuple[int, int] | None) -> None:
    if declared is None:
        raise Fault("is damaged (its compressed pixels have no header)")
    if declared != shape:
        raise Fault(f"is damaged (its pixels are {declared[1]} x {declared[0]}, and its header says {shape[1]} x {shape[0]})")
    # A frame is padded to an even length, by old tools with FF.
    if not frame.rstrip(b"\0").removesuffix(b"\xff").endswith(_END):
        raise Fault("is truncated (its compressed pixels have no end marker)")


def _j2k_size(frame: bytes) -> tuple[int, int] | None:
    """Return the (height, width) that a JPEG 2000 codestream declares (ISO 15444-1, A.5.1), or None where there is none."""
    start = frame.find(_CODESTREAM)
    if start < 0 or len(frame) < start + 24:
        return None
    width, height, left, top = (int.from_bytes(frame[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
    return height - top, width - left


def _quietly(call: Callable[[], _T]) -> _T:
    """Return what a decoder returns. Raises Fault for whatever it raises: third parties' decoders raise what they meet."""
    try:
        return call()
    except (Fault, MemoryError):
        raise
    except Exception as error:
        raise Fault(f"is a DICOM file that cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())[:200]})") from error
