"""Files of made data: the same bytes for the same pixels and rows."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import cv2
import numpy as np

JPEG_QUALITY = 95


def save_image(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 or uint16 (height, width), as its suffix says. Raises OSError when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    how = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix in (".jpg", ".jpeg") else []
    if not cv2.imwrite(str(path), image, how):
        raise OSError(None, "no image was written")


def save_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, end: str = "\n") -> None:
    """Write a CSV file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=end).writerows([columns, *rows])


def save_packed_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header, gzip around it; the same bytes whenever it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode("utf-8"), mtime=0))


def save_packed_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Write text files by name into a ZIP archive; the same bytes whenever it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(path, "w") as archive:
        for name, text in sorted(texts.items()):
            about = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            about.compress_type = ZIP_DEFLATED
            archive.writestr(about, text.encode("utf-8"))


def save_dicom(
    path: Path, image: np.ndarray, *, name: str, bits: int = 8, inverted: bool = False, facts: Mapping[str, str] | None = None
) -> None:
    """Write an image, uint8 (height, width), as an uncompressed DICOM of `bits` bits; `inverted` stores it as MONOCHROME1.

    `name` is hexadecimal and gives the UIDs; `facts` are further attributes by keyword, such as `ViewPosition`.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    values = (image.astype(np.uint32) * (2**bits - 1) + 127) // 255
    values = 2**bits - 1 - values if inverted else values
    pixels = values.astype(np.uint8 if bits == 8 else np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID(f"2.25.{int(name, 16) % 10**38}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.PatientID = "CR", name
    for keyword, value in (facts or {}).items():
        setattr(data, keyword, value)
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit = pixels.itemsize * 8, bits, bits - 1
    data.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def save_text(path: Path, text: str) -> None:
    """Write a text file, its line ends as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
