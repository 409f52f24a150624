"""SIIM-ACR Pneumothorax Segmentation: a table of masks beside `dicom-images-train/<study>/<series>/<ImageId>.dcm`, or flat.

`EncodedPixels` (the released header has a blank before it) is `-1` where there is no pneumothorax, else a run-length code of the image at
1024 x 1024: pairs of a gap since the end of the last run and a length, down the columns, left to right. An image with several rows is the
union of them. Images are named by their id, whatever they were converted to; each is taken as a patient of its own, since the table does
not say who they are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.places import DICOM_FIRST, files_by_name, folder_with, one_file
from trainers.data.tables import Collected, read_table
from trainers.errors import DataError

#: Which column names an image.
IMAGE_COLUMN = "ImageId"
SIDE = 1024
_NONE = "-1"
_FOLDERS = ("siim-acr-pneumothorax-segmentation", "siim")
_IMAGES = ("dicom-images-train/*/*/*", "dicom-images-train/*", "dicom-images-*/*/*/*", "stage_2_*/*", "train*/*", "*")

#: Image -> its runs as (place, code), none where there is no pneumothorax.
_Runs = Mapping[str, list[tuple[str, str]]]
#: What was read last: masks are asked for one by one, and the table is large.
_read: dict[tuple[str, int, int], _Runs] = {}


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the table: the root, or the challenge's folder in it."""
    return folder_with(card, root, _FOLDERS)


def read(card: Card, root: Path) -> Rows:
    """Return one row an image, in file order. Raises DataError with file and line."""
    found = Collected(card)
    file = one_file(card, base(card, root), card.label_files[0])
    for image, runs in _runs(card, file).items():
        found.add(image, patient=image, labels=[float(bool(runs))] * len(card.labels), place=runs[0][0] if runs else str(file))
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image: a DICOM, or what it was converted to."""
    return files_by_name(base, images, _IMAGES, DICOM_FIRST)


def masks(card: Card, base: Path, image: str) -> dict[str, np.ndarray]:
    """Return the mask of pneumothorax, uint8 (1024, 1024); of an image without one, empty. Raises DataError on a wrong code."""
    runs = _runs(card, one_file(card, base, card.label_files[0]))
    if image not in runs:
        raise DataError(f"data set '{card.name}' has no mask of {image}: its table does not name it")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for place, code in runs[image]:
        mask |= decode_runs(code, place)
    return dict.fromkeys(card.label_names, mask)


def decode_runs(code: str, place: str = "run-length code") -> np.ndarray:
    """Return the mask of one run-length code, uint8 (1024, 1024). Raises DataError naming the place when it is none."""
    try:
        numbers = np.array(code.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        numbers = np.array([-1])
    gaps, lengths = numbers[0::2], numbers[1::2]
    if len(gaps) != len(lengths) or (numbers < 0).any() or numbers.sum() > SIDE * SIDE:
        raise DataError(f"{place}: 'EncodedPixels' is no run-length code of {SIDE} x {SIDE} pixels (pairs of gap and length)")
    ends = np.cumsum(gaps + lengths)
    edges = np.zeros(SIDE * SIDE + 1, np.int32)
    np.add.at(edges, ends - lengths, 1)
    np.add.at(edges, ends, -1)
    down_the_columns = np.cumsum(edges[:-1]).reshape(SIDE, SIDE)
    return np.ascontiguousarray(down_the_columns.T).astype(np.uint8)


def _runs(card: Card, file: Path) -> _Runs:
    about = file.stat()
    key = (str(file), about.st_mtime_ns, about.st_size)
    if key not in _read:
        found: dict[str, list[tuple[str, str]]] = {}
        empty: dict[str, str] = {}
        for line in read_table(card, file, ("ImageId", "EncodedPixels")):
            image, code = line.text("ImageId"), line.text("EncodedPixels")
            if code == _NONE:
                empty[image] = line.place
            else:
                found.setdefault(image, []).append((line.place, code))
            found.setdefault(image, [])
        if both := next((image for image in empty if found[image]), None):
            raise DataError(f"{empty[both]}: {both} has no pneumothorax here, and has one at {found[both][0][0]}")
        _read.clear()
        _read[key] = found
    return _read[key]
