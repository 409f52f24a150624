"""RSNA Pneumonia Detection Challenge (2018): two tables beside `stage_2_train_images/<patientId>.dcm`.

`stage_2_detailed_class_info.csv` gives each image one of three classes, once for each of its boxes; `stage_2_train_labels.csv` has the
boxes, and `Target`. The labels of the challenge's own test images were never published. Images are named by their id, whatever they were
converted to. A `patientId` is one image of NIH ChestX-ray14: who the patient is stands in the mapping that RSNA published, which
`options.mapping` names; then images of one patient are never in two splits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.places import DICOM_FIRST, files_by_name, folder_with, one_file
from trainers.data.regions import Boxes, boxes_from
from trainers.data.tables import Collected, read_table, read_text
from trainers.errors import DataError

CLASSES = "stage_2_detailed_class_info.csv"
BOXES = "stage_2_train_labels.csv"
#: The class whose images have boxes.
OPACITY = "Lung Opacity"
NAMES = ("Normal", "No Lung Opacity / Not Normal", OPACITY)
_FOLDERS = ("rsna-pneumonia-detection-challenge", "rsna")
_IMAGES = ("stage_2_train_images/*", "stage_2_train_images*/*", "images/*", "train/*", "*")


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := sorted(set(card.options) - {"mapping"}):
        return f".{strange[0]}: unknown key; it has mapping"
    return None if card.options["mapping"] in card.label_files else f".mapping: '{card.options['mapping']}' is none of label_files"


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the tables: the root, or the challenge's folder in it."""
    return folder_with(card, root, _FOLDERS)


def read(card: Card, root: Path) -> Rows:
    """Return one row an image, in file order. Raises DataError with file and line."""
    folder, found = base(card, root), Collected(card)
    classes = _classes(card, folder)
    targets = _targets(card, folder)
    if lost := sorted(set(classes) ^ set(targets)):
        there, missing = (CLASSES, BOXES) if lost[0] in classes else (BOXES, CLASSES)
        raise DataError(f"{folder / there} has {lost[0]}, and {missing} has not (and {len(lost) - 1} more): take both from one release")
    patients = _patients(card, folder)
    for image, (name, place) in classes.items():
        if (name == OPACITY) != targets[image]:
            raise DataError(f"{place}: {image} is '{name}', and its Target in {BOXES} says otherwise")
        if patients is not None and image not in patients:
            raise DataError(f"{place}: {image} is not in {card.options['mapping']}: take both from one release")
        values = [float(column == name) for column in card.labels.values()]
        found.add(image, patient=image if patients is None else patients[image], labels=values, place=place)
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image: a DICOM, or what it was converted to."""
    return files_by_name(base, images, _IMAGES, DICOM_FIRST)


def boxes(card: Card, root: Path) -> Boxes:
    """Return the boxes of lung opacities. Raises DataError with file and line."""
    slugs = {column: slug for slug, column in card.labels.items()}
    images: list[str] = []
    corners: list[tuple[float, ...]] = []
    for line in read_table(card, one_file(card, base(card, root), BOXES), ("patientId", "x", "y", "width", "height", "Target")):
        if OPACITY in slugs and line.label("Target") == 1:
            left, top, width, height = (line.finite(column) for column in ("x", "y", "width", "height"))
            images.append(line.text("patientId"))
            corners.append((left, top, left + width, top + height))
    return boxes_from(images, [slugs[OPACITY]] * len(images), corners)


def _classes(card: Card, folder: Path) -> dict[str, tuple[str, str]]:
    """Return the class of each image, and where it stands. An image with two boxes has two lines of one class."""
    found: dict[str, tuple[str, str]] = {}
    for line in read_table(card, one_file(card, folder, CLASSES), ("patientId", "class")):
        image, name = line.text("patientId"), line.text("class")
        if name not in NAMES:
            raise DataError(f"{line.place}: class '{name}' is none of {', '.join(NAMES)}")
        if image in found and found[image][0] != name:
            raise DataError(f"{line.place}: {image} is '{name}', and '{found[image][0]}' at {found[image][1]}: it has one class")
        found.setdefault(image, (name, line.place))
    return found


def _targets(card: Card, folder: Path) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for line in read_table(card, one_file(card, folder, BOXES), ("patientId", "Target")):
        image, value = line.text("patientId"), line.label("Target")
        if value not in (0, 1):
            raise DataError(f"{line.place}: 'Target' is '{line.cells['Target']}', and may be 0 or 1")
        if found.setdefault(image, value == 1) != (value == 1):
            raise DataError(f"{line.place}: {image} has Target 0 and 1")
    return found


def _patients(card: Card, folder: Path) -> dict[str, str] | None:
    """Return the patient of NIH ChestX-ray14 behind each image, or None where the card does without the mapping."""
    if "mapping" not in card.options:
        return None
    file = one_file(card, folder, card.options["mapping"])
    try:
        entries = json.loads(read_text(card, file))
        # NIH names an image `<patient>_<follow-up>.png`, and its table has the patient as a number.
        return {entry["subset_img_id"]: str(int(entry["img_id"].partition("_")[0])) for entry in entries}
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{file}: is no mapping of RSNA's (a list of subset_img_id and img_id): copy it again from the release") from error
