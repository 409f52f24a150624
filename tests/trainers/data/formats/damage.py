"""Ways to damage an image file, each a function of (random stream, file): bytes, and what may become of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class File:
    """A whole file: its format, the coding inside where there are several, and its content."""

    format: str
    coding: str
    content: bytes

    @property
    def suffix(self) -> str:
        return {"png": ".png", "jpeg": ".jpg", "dicom": ".dcm", "img": ".IMG"}[self.format]


@cache
def radiograph() -> np.ndarray:
    """Return a picture with smooth parts, edges and noise, 12 bits, uint16 (160, 200)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:160, :200]
    lungs = np.exp(-(((x - 60) / 30) ** 2) - ((y - 80) / 50) ** 2) + np.exp(-(((x - 140) / 30) ** 2) - ((y - 80) / 50) ** 2)
    ribs = 0.15 * np.sin(y / 5 + (x - 100) ** 2 / 2000)
    return np.clip(3200 - 2400 * lungs + 500 * ribs + rng.normal(0, 25, y.shape), 1, 4095).astype(np.uint16)


@cache
def whole(format: str, turn: int) -> File:
    """Return a whole file of a format; its codings take turns."""
    twelve = radiograph()
    eight = (twelve >> 4).astype(np.uint8)
    if format == "png":
        coding = ("8 bits", "16 bits")[turn % 2]
        return File(format, coding, cv2.imencode(".png", eight if coding == "8 bits" else twelve << 4)[1].tobytes())
    if format == "jpeg":
        coding = ("baseline", "progressive")[turn % 2]
        options = [cv2.IMWRITE_JPEG_QUALITY, 92, cv2.IMWRITE_JPEG_PROGRESSIVE, turn % 2]
        return File(format, coding, cv2.imencode(".jpg", eight, options)[1].tobytes())
    if format == "img":
        large = cv2.resize(twelve, (2048, 2048), interpolation=cv2.INTER_LINEAR)
        return File(format, "raw", large.astype(">u2").tobytes())
    coding = ("uncompressed", "JPEG 2000", "RLE", "JPEG")[turn % 4]
    return File(format, coding, _dicom(twelve, eight, coding))


def _dicom(twelve: np.ndarray, eight: np.ndarray, coding: str) -> bytes:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.3"
    image.Rows, image.Columns = twelve.shape
    image.SamplesPerPixel, image.PixelRepresentation = 1, 0
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelData = twelve.tobytes()
    image["PixelData"].VR = "OW"
    if coding == "JPEG 2000":
        image.compress(JPEG2000Lossless, generate_instance_uid=False)
    elif coding == "RLE":
        image.compress(RLELossless, generate_instance_uid=False)
    elif coding == "JPEG":
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        image.PixelData = encapsulate([cv2.imencode(".jpg", eight)[1].tobytes()])
        image["PixelData"].VR = "OB"
        image.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return _saved(image)


def _saved(image: Dataset) -> bytes:
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


# --- any file ----------------------------------------------------------------------------------------------------------------------------


def truncate(rng: Random, file: File) -> bytes:
    return file.content[: int(rng.integers(1, len(file.content)))]


def truncate_in_header(rng: Random, file: File) -> bytes:
    return file.content[: int(rng.integers(1, 200))]


def flip_bits(rng: Random, file: File) -> bytes:
    content = bytearray(file.content)
    for _ in range(int(rng.integers(1, 9))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def zero_block(rng: Random, file: File) -> bytes:
    """As a disk does that lost a sector."""
    size = 512
    start = int(rng.integers(len(file.content) // size)) * size
    return file.content[:start] + bytes(min(size, len(file.content) - start)) + file.content[start + size :]


def swap_blocks(rng: Random, file: File) -> bytes:
    size = 512
    blocks = [file.content[start : start + size] for start in range(0, len(file.content), size)]
    first, second = rng.choice(max(len(blocks) - 1, 2), 2, replace=False)
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return b"".join(blocks)


def wrong_magic(rng: Random, file: File) -> bytes:
    start = 128 if file.format == "dicom" else 0
    return file.content[:start] + rng.bytes(4) + file.content[start + 4 :]


def empty(rng: Random, file: File) -> bytes:
    return b""


def swap_endianness(rng: Random, file: File) -> bytes:
    even = file.content[: len(file.content) // 2 * 2]
    start = even.rfind(radiograph().tobytes()[:64]) if file.coding == "uncompressed" else 0
    return even[:start] + np.frombuffer(even[start:], np.uint16).byteswap().tobytes()


def append_garbage(rng: Random, file: File) -> bytes:
    return file.content + rng.bytes(int(rng.integers(1, 2000)))


def append_zeros(rng: Random, file: File) -> bytes:
    return file.content + bytes(int(rng.integers(1, 5000)))


def random_bytes(rng: Random, file: File) -> bytes:
    return rng.bytes(min(len(file.content), 20_000))


def another_page(rng: Random, file: File) -> bytes:
    """As a download does that was not let in."""
    return b"<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body>" + b"<p>login</p>" * int(rng.integers(1, 500))


def duplicate_header(rng: Random, file: File) -> bytes:
    length = {"png": 33, "jpeg": 20, "dicom": 132, "img": 512}[file.format]
    return file.content[:length] + file.content


# --- by format ----------------------------------------------------------------------------------------------------------------------------


def wrong_size(rng: Random, file: File) -> bytes:
    """Declare some more or fewer rows or columns; of a raw file, add or take rows."""
    change = int(rng.choice([-17, -2, -1, 1, 2, 40]))
    height, width = 160, 200
    if rng.integers(2):
        height += change
    else:
        width += change
    return _declared(file, height, width, checksum=bool(rng.integers(2)) and height >= 160)


def huge_size(rng: Random, file: File) -> bytes:
    return _declared(file, 60_000 + int(rng.integers(5000)), 60_000, checksum=True)


def _declared(file: File, height: int, width: int, *, checksum: bool) -> bytes:
    content = bytearray(file.content)
    if file.format == "img":
        return file.content[: height * width * 2] if height * width < 2048 * 2048 else file.content + bytes(4096)
    if file.format == "png":
        content[16:24] = struct.pack(">II", width, height)
        if checksum:
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        return bytes(content)
    if file.format == "jpeg":
        at = _frame_header(file.content)
        content[at + 5 : at + 9] = struct.pack(">HH", height, width)
        return bytes(content)
    return _changed(file, Rows=height, Columns=width)


def without_pixels(rng: Random, file: File) -> bytes:
    if file.format == "img":
        return file.content[: int(rng.integers(1, 4096))]
    if file.format == "png":
        start = file.content.index(b"IDAT") - 4
        return file.content[:start] + file.content[file.content.index(b"IEND") - 4 :]
    if file.format == "jpeg":
        return file.content[: file.content.index(b"\xff\xda")] + b"\xff\xd9"
    return _changed(file, PixelData=None)


def unknown_coding(rng: Random, file: File) -> bytes:
    """Name a compression that there is none of."""
    content = bytearray(file.content)
    if file.format == "img":  # text, as of a spreadsheet
        return "".join(f"{number}," for number in rng.integers(0, 4096, 2000)).encode()
    if file.format == "png":
        content[26] = int(rng.integers(1, 256))
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif file.format == "jpeg":
        content[_frame_header(file.content) + 1] = int(rng.choice([0xC3, 0xC5, 0xC7, 0xCB, 0xCF]))
    else:
        uid = file.content.index(b"1.2.840.10008.1.2.1" if file.coding == "uncompressed" else b"1.2.840.10008.1.2.")
        content[uid + 14 : uid + 17] = b"7.8"
    return bytes(content)


def _frame_header(content: bytes) -> int:
    return max(content.find(b"\xff\xc0\x00\x0b"), content.find(b"\xff\xc2\x00\x0b"))


def _changed(file: File, **tags: Any) -> bytes:
    image = pydicom.dcmread(io.BytesIO(file.content))
    for name, value in tags.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    return _saved(image)


MUTATORS: Mapping[str, Callable[[Random, File], bytes]] = {
    name: globals()[name]
    for name in (
        "truncate",
        "truncate_in_header",
        "flip_bits",
        "zero_block",
        "swap_blocks",
        "wrong_magic",
        "empty",
        "swap_endianness",
        "append_garbage",
        "append_zeros",
        "random_bytes",
        "another_page",
        "duplicate_header",
        "wrong_size",
        "huge_size",
        "without_pixels",
        "unknown_coding",
    )
}
FORMATS = ("png", "jpeg", "dicom", "img")
