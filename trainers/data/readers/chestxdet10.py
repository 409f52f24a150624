"""ChestX-Det10's layout: `train.json` and `test.json` beside `train_data/` and `test_data/`.

Each file is a list of `{"file_name": "36199.png", "syms": ["Effusion"], "boxes": [[left, top, right, bottom]]}`, a box for each finding.
The images are of NIH ChestX-ray14; where they have their names of there, so has the patient.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.places import files_by_name, folder_with, one_file
from trainers.data.regions import Boxes, boxes_from
from trainers.data.tables import Collected, read_text
from trainers.errors import DataError

FINDINGS = (
    *("Atelectasis", "Calcification", "Consolidation", "Effusion", "Emphysema"),
    *("Fibrosis", "Fracture", "Mass", "Nodule", "Pneumothorax"),
)
_FOLDERS = ("ChestX-Det10-Dataset", "ChestX-Det10")
_IMAGES = ("train_data/*", "test_data/*", "train_data/*/*", "test_data/*/*", "train/*", "test/*", "images/*", "*")
_NIH = re.compile(r"(\d{8})_\d{3}\.\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """One image as a list has it."""

    image: str
    findings: list[str]
    boxes: list[list[float]]
    place: str
    given: str


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the lists: the root, or the release's folder in it."""
    return folder_with(card, root, _FOLDERS)


def read(card: Card, root: Path) -> Rows:
    """Return one row an image, in file order. Raises DataError with file and entry."""
    found = Collected(card)
    for entry in _entries(card, base(card, root)):
        nih = _NIH.fullmatch(entry.image)
        found.add(
            entry.image,
            patient=str(int(nih[1])) if nih else Path(entry.image).stem,
            labels=[float(column in entry.findings) for column in card.labels.values()],
            place=entry.place,
            given=entry.given,
        )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image."""
    return files_by_name(base, images, _IMAGES)


def boxes(card: Card, root: Path) -> Boxes:
    """Return the boxes of the card's labels. Raises DataError with file and entry."""
    slugs = {column: slug for slug, column in card.labels.items()}
    found = [
        (entry.image, slugs[finding], corners)
        for entry in _entries(card, base(card, root))
        for finding, corners in zip(entry.findings, entry.boxes, strict=True)
        if finding in slugs
    ]
    return boxes_from([one[0] for one in found], [one[1] for one in found], [one[2] for one in found])


def _entries(card: Card, folder: Path) -> Iterator[_Entry]:
    for name in card.label_files:
        file = one_file(card, folder, name)
        try:
            content = json.loads(read_text(card, file))
        except json.JSONDecodeError as error:
            raise DataError(f"{file}:{error.lineno}: is not JSON ({error.msg}): copy it again from the release") from error
        if not isinstance(content, list):
            raise DataError(f"{file}: is no list of images: copy it again from the release")
        for number, entry in enumerate(content, start=1):
            yield _entry(entry, f"{file}: entry {number}", file.stem)


def _entry(entry: Any, place: str, given: str) -> _Entry:
    if not isinstance(entry, Mapping) or not {"file_name", "syms", "boxes"} <= set(entry):
        raise DataError(f"{place}: has no file_name, syms and boxes")
    findings, corners = entry["syms"], entry["boxes"]
    if not isinstance(findings, list) or not isinstance(corners, list) or len(findings) != len(corners):
        raise DataError(f"{place}: syms and boxes are two lists of one length")
    if strange := next((finding for finding in findings if finding not in FINDINGS), None):
        raise DataError(f"{place}: '{strange}' is none of {', '.join(FINDINGS)}")
    if not all(isinstance(box, list) and len(box) == 4 and all(isinstance(edge, (int, float)) for edge in box) for box in corners):
        raise DataError(f"{place}: a box is four numbers: left, top, right, bottom")
    return _Entry(image=str(entry["file_name"]), findings=findings, boxes=corners, place=place, given=given)
