"""NIH ChestX-ray14's layout, with the header of the first release.

Data_Entry_2017.csv, BBox_List_2017.csv
train_val_list.txt, test_list.txt                    the official lists
labels/{train,val,test}_list.txt                     those of re-implementations, with labels behind the names
google2019_nih-chest-xray-labels.csv                 four findings once more, for the validation and test patients
images_001/images/00000001_000.png, images_002/...   two of the archives
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from trainers.data.phantom.extras import boxes
from trainers.data.phantom.files import save_image, save_table
from trainers.data.phantom.frontals import Frontal, frontals
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.sources import FINDINGS
from trainers.data.readers.nih import FINDINGS as COLUMNS

COLUMN_OF = {
    "effusion": "Effusion",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "pneumothorax": "Pneumothorax",
    "nodule": "Nodule",
}
_HEADER = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"),
    *("OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"),
)
_RELABELLED = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
_IMAGES_AN_ARCHIVE = 12


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    rows: list[list[object]] = []
    boxed: list[list[object]] = []
    relabelled: list[list[object]] = []
    lists: dict[str, list[str]] = defaultdict(list)
    follow_up: dict[int, int] = defaultdict(int)
    for one in frontals(parameters, masks=True):
        patient = one.study.patient
        name = f"{patient:08d}_{follow_up[patient]:03d}.png"
        archive = 1 + len(rows) // _IMAGES_AN_ARCHIVE % 2
        save_image(folder / f"images_{archive:03d}" / "images" / name, one.picture.image)
        row = _row(one, name, follow_up[patient], parameters.px)
        follow_up[patient] += 1
        rows.append(row)
        lists["test_list.txt" if one.split == "test" else "train_val_list.txt"].append(name)
        bits = " ".join(str(int(column in str(row[1]).split("|"))) for column in COLUMNS)
        lists[f"labels/{one.split}_list.txt"].append(f"{name} {bits}")
        if one.split == "test":
            boxed += _boxes(one, name)
        if one.split != "train":
            relabelled.append([*row, *_relabelled(one), one.split])
    # The released header ends with a comma, and so does every row.
    save_table(folder / "Data_Entry_2017.csv", (*_HEADER, ""), ([*row, ""] for row in rows))
    save_table(folder / "BBox_List_2017.csv", ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""), boxed)
    save_table(folder / "google2019_nih-chest-xray-labels.csv", (*_HEADER, *_RELABELLED, "Set Id"), relabelled)
    for name, lines in lists.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(rows), ("Data_Entry_2017.csv", "BBox_List_2017.csv", "google2019_nih-chest-xray-labels.csv", *sorted(lists))


def _row(one: Frontal, name: str, follow_up: int, px: int) -> list[object]:
    found = sorted(COLUMN_OF[finding] for finding, value in one.labels.items() if value == 1)
    age = f"{one.study.anatomy.age:03d}Y"
    who = [follow_up, one.study.patient, age, one.sex, one.position]
    return [name, "|".join(found) or "No Finding", *who, px, px, 0.143, 0.143]


def _boxes(one: Frontal, name: str) -> list[list[object]]:
    return [
        [name, COLUMN_OF[finding], *(f"{value:.6f}" for value in box), "", "", ""]
        for finding, value in one.labels.items()
        if value == 1 and finding in one.picture.masks
        for box in boxes(one.picture.masks[finding])
    ]


def _relabelled(one: Frontal) -> list[str]:
    """Return what a panel says: the truth. Nothing made is a fracture."""
    truth = dict(zip(FINDINGS, one.study.truth, strict=True))
    panel = (False, truth["pneumothorax"], truth["consolidation"] or truth["edema"], truth["nodule"])
    return ["YES" if value else "NO" for value in panel]
