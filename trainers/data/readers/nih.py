"""NIH ChestX-ray14's layout: `Data_Entry_2017_v2020.csv` (or the first release's) beside `images/`, or `images_001/images/` and so on.

The findings of an image stand in one cell, `Cardiomegaly|Effusion` or `No Finding`. The name of the column with an image's size holds a
comma, so that it is read as two, as is its content. The first release writes ages as `058Y`, the second as `58`; some copies say
`Patient Sex` for `Patient Gender`. Boxes are in `BBox_List_2017.csv`, which writes `Infiltrate` for `Infiltration`. Relabelled subsets that
keep these columns may add their own (`YES`, `NO`) and name a split in `Set Id`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.places import files_by_name, folder_with, one_file
from trainers.data.regions import Boxes, boxes_from
from trainers.data.tables import Collected, Line, read_table
from trainers.errors import DataError

NO_FINDING = "No Finding"
#: In the order that the lists of the literature have them.
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
BOXES = "BBox_List_2017.csv"
#: Which column names an image.
IMAGE_COLUMN = "Image Index"
_IN_BOXES = {"Infiltrate": "Infiltration"}
_FOLDERS = ("ChestX-ray14", "CXR8", "NIH")
_IMAGES = ("images/*", "images_*/images/*", "images_*/*", "*")
_YES = {"YES": 1.0, "NO": 0.0}
#: Days and months are the ages of infants.
_AGE = re.compile(r"0*(\d+)([YMD]?)")
_NEEDED = ("Image Index", "Finding Labels", "Patient ID")


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the label file: the root, or the release's folder in it."""
    return folder_with(card, root, _FOLDERS)


def read(card: Card, root: Path) -> Rows:
    """Return one row an image, in file order. Raises DataError with file and line."""
    folder, found = base(card, root), Collected(card)
    own = tuple(column for column in card.labels.values() if column not in (*FINDINGS, NO_FINDING))
    for entry in card.label_files:
        for line in read_table(card, one_file(card, folder, entry), (*_NEEDED, *own)):
            _add(card, line, found)
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image, in whichever of the release's folders it was unpacked."""
    return files_by_name(base, images, _IMAGES)


def boxes(card: Card, root: Path) -> Boxes:
    """Return the boxes of the card's labels. Raises DataError with file and line."""
    slugs = {column: slug for slug, column in card.labels.items()}
    images: list[str] = []
    labels: list[str] = []
    corners: list[tuple[float, ...]] = []
    folder = base(card, root)
    # A relabelled subset has the boxes of its own images alone.
    known = {line.text("Image Index") for entry in card.label_files for line in read_table(card, one_file(card, folder, entry), _NEEDED)}
    for line in read_table(card, one_file(card, folder, BOXES), ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")):
        finding = line.text("Finding Label")
        finding = _IN_BOXES.get(finding, finding)
        if finding not in FINDINGS:
            raise DataError(f"{line.place}: '{finding}' is none of {', '.join(FINDINGS)}")
        if finding in slugs and line.text("Image Index") in known:
            left, top, width, height = (line.finite(column) for column in ("Bbox [x", "y", "w", "h]"))
            images.append(line.text("Image Index"))
            labels.append(slugs[finding])
            corners.append((left, top, left + width, top + height))
    return boxes_from(images, labels, corners)


def _add(card: Card, line: Line, found: Collected) -> None:
    findings = _findings(line)
    found.add(
        line.text("Image Index"),
        patient=line.text("Patient ID"),
        labels=[_label(line, column, findings) for column in card.labels.values()],
        place=line.place,
        given=line.cells.get("Set Id", "").strip(),
        traits=_traits(line),
    )


def _findings(line: Line) -> frozenset[str]:
    found = frozenset(part.strip() for part in line.text("Finding Labels").split("|"))
    if strange := sorted(found - {*FINDINGS, NO_FINDING}):
        raise DataError(f"{line.place}: 'Finding Labels' has '{strange[0]}', which is none of {', '.join(FINDINGS)} and {NO_FINDING}")
    if NO_FINDING in found and len(found) > 1:
        raise DataError(f"{line.place}: 'Finding Labels' is '{line.cells['Finding Labels']}': no finding and a finding")
    return found


def _label(line: Line, column: str, findings: frozenset[str]) -> float:
    """Read a label from a column of its own where the file has one, else from the list of findings."""
    if column not in line.cells:
        return float(column in findings)
    value = line.text(column)
    if value not in _YES:
        raise DataError(f"{line.place}: '{column}' is '{value}', and may be YES or NO")
    return _YES[value]


def _traits(line: Line) -> Mapping[str, str]:
    cells = {"Patient Gender": line.cells.get("Patient Sex", ""), "Patient Age": ""} | dict(line.cells)
    age = _AGE.fullmatch(cells["Patient Age"].strip())
    if age is not None:
        cells["Patient Age"] = age[1] if age[2] in ("", "Y") else "0"
    return cells
