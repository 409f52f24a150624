"""CheXpert-small's layout.

CheXpert-v1.0-small/train.csv, valid.csv             the 19 real columns
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
extras/{masks/,boxes.csv,reports.csv,latents.csv}    on request
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trainers.data.phantom.extras import Extras
from trainers.data.phantom.files import save_image, save_table
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, draw_acquisition, studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS

DATASET = "CheXpert-v1.0-small"
#: The real observation columns, in the order of the real label files.
OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS)
#: The real column of each finding.
COLUMN_OF = {
    "effusion": "Pleural Effusion",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "pneumothorax": "Pneumothorax",
    "nodule": "Lung Lesion",
}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    return write_splits(folder, parameters, {"train": COLUMNS, "valid": COLUMNS}, lambda study: study.split)


def write_splits(
    folder: Path, parameters: PhantomParameters, columns: Mapping[str, Sequence[str]], split_of: Callable[[Study], str]
) -> tuple[int, tuple[str, ...]]:
    """Write a set whose label files are those of `columns`; return how many images it has, and its label files."""
    rows: dict[str, list[Sequence[str]]] = {split: [] for split in columns}
    extras = Extras(folder / "extras") if parameters.extras else None
    for study in studies(parameters):
        split = split_of(study)
        place = Path(DATASET, split, f"patient{study.patient:05d}", f"study{study.number}")
        for index, view in enumerate(study.views, start=1):
            path = place / f"view{index}_{view}.jpg"
            picture = render(study, view, px=parameters.px, strength=parameters.strength, masks=parameters.extras)
            save_image(folder / path, picture.image)
            row: dict[str, str] = dict(zip(COLUMNS, row_of(study, view, path.as_posix()), strict=True))
            rows[split].append([row[column] for column in columns[split]])
            if extras is not None:
                extras.add_picture(path.as_posix(), picture, study, view)
        if extras is not None:
            extras.add_study(place.as_posix(), study)
    for split, lines in rows.items():
        save_table(folder / DATASET / f"{split}.csv", columns[split], lines)
    if extras is not None:
        extras.close()
    return sum(map(len, rows.values())), tuple(f"{DATASET}/{split}.csv" for split in rows)


def row_of(study: Study, view: str, path: str) -> list[str]:
    """Return the row of an image in the label file, as text in the order of `COLUMNS`."""
    values = {COLUMN_OF[name]: value for name, value in zip(FINDINGS, study.labels, strict=True)}
    written = {column: "" if math.isnan(value) else f"{value:.1f}" for column, value in values.items()}
    if study.no_finding:
        written["No Finding"] = "1.0"
    frontal = view == "frontal"
    position = ("AP" if draw_acquisition(study, view).portable else "PA") if frontal else ""
    who = ["Female" if study.anatomy.female else "Male", str(study.anatomy.age), "Frontal" if frontal else "Lateral", position]
    return [path, *who, *(written.get(column, "") for column in OBSERVATIONS)]
