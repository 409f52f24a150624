"""VinDr-CXR's layout: `annotations/{image_labels,annotations}_{train,test}.csv` beside `train/<image_id>.dicom` and `test/`.

Three radiologists read each training image, each on a row of their own (`rad_id`); `options.raters` says what becomes of them: a label is
positive when `any` of them marked it, as the literature has it, or the `majority`. The test rows are the consensus of five. Kaggle's copy
has one table `train.csv` of boxes with a class and a rater each; there a rater marked what they drew a box of. Images are named by their
id, whatever they were converted to; the release does not say which are of one patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.places import DICOM_FIRST, files_by_name, folder_with, one_file
from trainers.data.regions import Boxes, boxes_from
from trainers.data.tables import BLANK, Collected, Line, read_table
from trainers.errors import DataError

#: Which column names an image.
IMAGE_COLUMN = "image_id"
NO_FINDING = "No finding"
#: Every finding and diagnosis, in the order of the release.
FINDINGS = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema", "Emphysema"),
    *("Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift", "Nodule/Mass"),
    *("Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor"),
    *("Pneumonia", "Tuberculosis", "Other diseases", NO_FINDING),
)
#: What one of the tables calls a label of the other.
_ALSO = {"Other diseases": "Other disease"}
_NAMED = {other: name for name, other in _ALSO.items()}
_LABELS, _BOXES = "image_labels", "annotations_"
_RULES = ("any", "majority")
_FOLDERS = ("physionet.org/files/vindr-cxr/1.0.0", "vindr-cxr", "vinbigdata-chest-xray-abnormalities-detection")
_IMAGES = ("train/*", "test/*", "train_*/*", "test_*/*", "*")
_CORNERS = ("x_min", "y_min", "x_max", "y_max")


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := sorted(set(card.options) - {"raters"}):
        return f".{strange[0]}: unknown key; it has raters"
    return None if card.options["raters"] in _RULES else f".raters: is '{card.options['raters']}', and may be any or majority"


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the tables: the root, or the release's folder in it."""
    return folder_with(card, root, _FOLDERS)


def read(card: Card, root: Path) -> Rows:
    """Return one row an image, in file order. Raises DataError with file and line."""
    folder, found = base(card, root), Collected(card)
    for entry in card.label_files:
        file = one_file(card, folder, entry)
        for image, (votes, place) in _votes(card, file).items():
            marks = list(zip(*votes.values(), strict=True))
            needed = len(votes) / 2 if card.options.get("raters") == "majority" else 0
            labels = [float(sum(column) > needed) for column in marks]
            found.add(image, patient=image, labels=labels, place=place, given=file.stem.rpartition("_")[2])
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image: a DICOM, or what it was converted to."""
    return files_by_name(base, images, _IMAGES, (".dicom", *DICOM_FIRST))


def boxes(card: Card, root: Path) -> Boxes:
    """Return the boxes of the card's labels, of every rater. Raises DataError with file and line."""
    slugs = {column: slug for slug, column in card.labels.items()}
    folder = base(card, root)
    images: list[str] = []
    labels: list[str] = []
    corners: list[tuple[float, ...]] = []
    for entry in card.label_files:
        file = one_file(card, folder, entry.replace(f"{_LABELS}_", _BOXES))
        for line in read_table(card, file, ("image_id", "class_name", *_CORNERS)):
            name = _class(line)
            if name != NO_FINDING and name in slugs and line.cells["x_min"].strip().lower() not in BLANK:
                images.append(line.text("image_id"))
                labels.append(slugs[name])
                corners.append(tuple(line.finite(column) for column in _CORNERS))
    return boxes_from(images, labels, corners)


#: Image -> (rater -> a mark for each label of the card, and where the image stands first).
_Votes = Mapping[str, tuple[dict[str, list[bool]], str]]


def _votes(card: Card, file: Path) -> _Votes:
    found: dict[str, tuple[dict[str, list[bool]], str]] = {}
    columns = tuple(card.labels.values())
    for line in read_table(card, file, ("image_id",)):
        votes, _ = found.setdefault(line.text("image_id"), ({}, line.place))
        rater = line.text("rad_id") if "rad_id" in line.cells else ""
        if "class_name" in line.cells:
            marks = votes.setdefault(rater, [False] * len(columns))
            name = _class(line)
            if name in columns:
                marks[columns.index(name)] = True
            continue
        if rater in votes:
            who = f"rater {rater} has read" if rater else "there is another row of"
            raise DataError(f"{line.place}: {who} {line.text('image_id')} already: remove one of the two lines")
        votes[rater] = [_mark(line, column) for column in columns]
    return found


def _mark(line: Line, column: str) -> bool:
    name = column if column in line.cells else _ALSO.get(column, column)
    if name not in line.cells:
        raise DataError(f"{line.file}: has no column '{column}' (it has {', '.join(line.cells)})")
    value = line.label(name)
    if value not in (0, 1):
        raise DataError(f"{line.place}: '{name}' is '{line.cells[name]}', and may be 0 or 1")
    return value == 1


def _class(line: Line) -> str:
    name = line.text("class_name")
    name = _NAMED.get(name, name)
    if name not in FINDINGS:
        raise DataError(f"{line.place}: class '{name}' is none of {', '.join(FINDINGS)}")
    return name
