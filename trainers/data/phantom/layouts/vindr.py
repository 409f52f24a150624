"""VinDr-CXR's layout, and Kaggle's table of the same training images.

annotations/image_labels_{train,test}.csv       three radiologists an image of train, the consensus for test
annotations/annotations_{train,test}.csv        boxes
train.csv                                       Kaggle's
train/<image_id>.dicom, test/<image_id>.dicom   12 bits; every third is MONOCHROME1
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.data.phantom.extras import boxes
from trainers.data.phantom.files import save_dicom, save_table
from trainers.data.phantom.frontals import Frontal, frontals, made_id
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Stream, read, stream
from trainers.data.phantom.sources import FINDINGS, SOURCES
from trainers.data.readers.vindr import FINDINGS as COLUMNS
from trainers.data.readers.vindr import NO_FINDING

COLUMN_OF = {
    "effusion": "Pleural effusion",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "pneumothorax": "Pneumothorax",
    "nodule": "Nodule/Mass",
}
#: Kaggle's table has these of the made findings, and no finding.
_OF_KAGGLE = ("Pleural effusion", "Cardiomegaly", "Consolidation", "Pneumothorax", "Nodule/Mass")
#: Diagnoses follow from findings, so that each has some cases.
_DIAGNOSES = {"Pneumonia": "consolidation", "Lung tumor": "nodule", "Tuberculosis": "pneumothorax", "Other diseases": "edema"}
_RATERS = 17
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_BITS = 12


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    labels: dict[str, list[list[object]]] = {"train": [], "test": []}
    boxed: dict[str, list[list[object]]] = {"train": [], "test": []}
    count = 0
    for one in frontals(parameters, masks=True):
        name, split = made_id(one.study), "test" if one.split == "test" else "train"
        facts = {"WindowCenter": str(2 ** (_BITS - 1)), "WindowWidth": str(2**_BITS), "PatientSex": one.sex}
        save_dicom(folder / split / f"{name}.dicom", one.picture.image, name=name, bits=_BITS, inverted=count % 3 == 2, facts=facts)
        for rater, seen in _readings(one, split).items():
            who = [rater] if split == "train" else []
            labels[split].append([name, *who, *_marks(seen)])
            boxed[split] += [[name, *who, *box] for box in _boxes(one, seen)]
        count += 1
    for split in labels:
        who = ("rad_id",) if split == "train" else ()
        save_table(folder / "annotations" / f"image_labels_{split}.csv", ("image_id", *who, *COLUMNS), labels[split])
        save_table(folder / "annotations" / f"annotations_{split}.csv", ("image_id", *who, "class_name", *_CORNERS), boxed[split])
    kaggle = [[name, kind, 0, rater, *corners] for name, rater, kind, *corners in boxed["train"] if kind in (*_OF_KAGGLE, NO_FINDING)]
    save_table(folder / "train.csv", ("image_id", "class_name", "class_id", "rad_id", *_CORNERS), kaggle)
    names = (f"annotations/{kind}_{split}.csv" for kind in ("image_labels", "annotations") for split in labels)
    return count, (*names, "train.csv")


def _readings(one: Frontal, split: str) -> dict[str, set[str]]:
    """Return which findings each reader sees: three of 17, each with errors of their own, or the consensus."""
    if split == "test":
        return {"": {name for name, value in zip(FINDINGS, one.study.truth, strict=True) if value}}
    margins = np.array([lesion.margin for lesion in one.study.lesions])
    found: dict[str, set[str]] = {}
    for turn in range(3):
        calls = read(margins, SOURCES[one.study.source], stream(Stream.READER, *one.study.key, turn + 1))
        rater = f"R{1 + (one.study.patient + 5 * turn) % _RATERS}"
        found[rater] = {name for name, value in zip(FINDINGS, calls.tolist(), strict=True) if value == 1}
    return found


def _marks(seen: set[str]) -> list[int]:
    named = {COLUMN_OF[finding] for finding in seen} | {name for name, finding in _DIAGNOSES.items() if finding in seen}
    named |= set() if seen else {NO_FINDING}
    return [int(column in named) for column in COLUMNS]


def _boxes(one: Frontal, seen: set[str]) -> list[list[object]]:
    """Return class and corners of what a reader saw: around both lungs where it is not there."""
    found: list[list[object]] = []
    for finding in sorted(seen):
        mask = one.picture.masks.get(finding)
        parts = boxes(mask) if mask is not None else []
        parts = parts or boxes(one.picture.masks["lung_left"] | one.picture.masks["lung_right"])
        found += [[COLUMN_OF[finding], left, top, left + width, top + height] for left, top, width, height in parts]
    return found or [[NO_FINDING, "", "", "", ""]]
