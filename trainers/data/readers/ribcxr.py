"""VinDr-RibCXR's layout: `data/{train,val}/Vindr_RibCXR_{train,val}_mask.json` beside `data/{train,val}/img/`.

A file has `img`, which names the image of each number, and for each rib (`R1` to `R10`, `L1` to `L10`) a polygon for each number: a list of
`{"x": ..., "y": ...}` in pixels of the image. Images are named by their file; the release does not say whose they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.decode import read_gray
from trainers.data.places import PNG_FIRST, files_by_name, one_file
from trainers.data.tables import Collected, read_text
from trainers.errors import DataError

_IMAGES = ("data/*/img/*", "*/img/*", "img/*", "**/*")
_SPLIT = {"train": "train", "val": "val", "test": "test"}


def base(card: Card, root: Path) -> Path:
    """Return the root: the files are looked for in it and in its folders."""
    return root


def read(card: Card, root: Path) -> Rows:
    """Return one row an image: 1 for each rib with a polygon, nothing for one without. Raises DataError with file and image."""
    found = Collected(card)
    for entry in card.label_files:
        file = one_file(card, root, entry)
        content = _content(card, file)
        given = next((split for split in _SPLIT if f"_{split}_" in file.name), "")
        for number, image in content["img"].items():
            marked = [bool(content[rib].get(number)) for rib in card.labels.values()]
            found.add(
                _name(image),
                patient=_name(image),
                labels=[1.0 if there else np.nan for there in marked],
                place=f"{file}: image {number}",
                given=given,
            )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image."""
    return files_by_name(base, images, _IMAGES, PNG_FIRST)


def masks(card: Card, base: Path, image: str) -> dict[str, np.ndarray]:
    """Return a mask for each rib that has a polygon, uint8 (height, width) of the image's file. Raises DataError on a wrong polygon."""
    shape = read_gray(files(card, base, [image])[0]).shape
    for entry in card.label_files:
        file = one_file(card, base, entry)
        content = _content(card, file)
        number = next((number for number, name in content["img"].items() if _name(name) == image), None)
        if number is not None:
            polygons = {slug: content[rib].get(number) for slug, rib in card.labels.items()}
            return {slug: _filled(points, shape, f"{file}: {slug} of image {number}") for slug, points in polygons.items() if points}
    raise DataError(f"data set '{card.name}' has no masks of {image}: none of its files names it")


def _name(path: str) -> str:
    """Return an image's file name without its end, which conversions change."""
    short = path.replace("\\", "/").rpartition("/")[2]
    return short.removesuffix(next((suffix for suffix in PNG_FIRST if short.endswith(suffix)), ""))


def _filled(points: Any, shape: tuple[int, ...], place: str) -> np.ndarray:
    try:
        polygon = np.array([(float(point["x"]), float(point["y"])) for point in points])
    except (KeyError, TypeError, ValueError):
        polygon = np.empty((0, 2))
    if len(polygon) < 3 or not np.isfinite(polygon).all() or math.ceil(np.abs(polygon).max()) > 10 * max(shape):
        raise DataError(f"{place}: is no polygon (three points or more, each with x and y)")
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
    return mask


def _content(card: Card, file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_text(card, file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: is not JSON ({error.msg}): copy it again from the release") from error
    wanted = ("img", *card.labels.values())
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in wanted):
        lost = next((key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), dict)), "")
        raise DataError(f"{file}: has no '{lost}', which would be a mapping from the number of an image")
    return content
