"""The layout of RSNA's pneumonia challenge.

stage_2_train_labels.csv, stage_2_detailed_class_info.csv       a line for each box
pneumonia-challenge-dataset-mappings_2018.json                  which image of NIH ChestX-ray14 each is
stage_2_train_images/<patientId>.dcm                            8 bits, MONOCHROME2
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from trainers.data.phantom.extras import boxes
from trainers.data.phantom.files import save_dicom, save_table
from trainers.data.phantom.frontals import Frontal, frontals, made_id
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.readers.rsna import BOXES, CLASSES, NAMES, OPACITY

_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    labels: list[list[object]] = []
    classes: list[Sequence[object]] = []
    mapping: list[dict[str, str]] = []
    follow_up: dict[int, int] = defaultdict(int)
    for one in frontals(parameters, masks=True):
        made = made_id(one.study)
        name = "-".join((made[:8], made[8:12], made[12:16], made[16:20], made[20:]))
        facts = {"PatientAge": f"{one.study.anatomy.age:03d}Y", "PatientSex": one.sex, "ViewPosition": one.position}
        save_dicom(folder / "stage_2_train_images" / f"{name}.dcm", one.picture.image, name=made, facts=facts)
        kind = _class(one)
        found = _boxes(one) if kind == OPACITY else []
        labels += [[name, *box, 1] for box in found] or [[name, "", "", "", "", 0]]
        classes += [[name, kind]] * max(1, len(found))
        patient = one.study.patient
        mapping.append({"img_id": f"{patient:08d}_{follow_up[patient]:03d}.png", "subset_img_id": name})
        follow_up[patient] += 1
    save_table(folder / BOXES, ("patientId", "x", "y", "width", "height", "Target"), labels)
    save_table(folder / CLASSES, ("patientId", "class"), classes)
    (folder / _MAPPING).write_text(json.dumps(mapping, indent=1) + "\n", encoding="utf-8")
    return len(mapping), (BOXES, CLASSES, _MAPPING)


def _class(one: Frontal) -> str:
    normal, other, opacity = NAMES
    if one.labels["consolidation"] == 1:
        return opacity
    return normal if one.study.no_finding else other


def _boxes(one: Frontal) -> list[tuple[float, ...]]:
    """Return the boxes of an opacity; around both lungs where the reader saw one that is not there."""
    shown = one.picture.masks.get("consolidation")
    found = boxes(shown) if shown is not None else []
    return [tuple(map(float, box)) for box in found or boxes(one.picture.masks["lung_left"] | one.picture.masks["lung_right"])]
