"""Files of made data: the same bytes for the same pixels and rows."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

JPEG_QUALITY = 95


def save_image(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 or uint16 (height, width), as its suffix says. Raises OSError when it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
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
