"""Small data sets for tests: files in CheXpert's layout, and rows without files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import load_card

OBSERVATIONS = tuple(load_card("chexpert").labels.values())
HEADER = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS)


def csv_row(path: str, *, view: str = "Frontal", prefix: str = "CheXpert-v1.0-small/", **labels: str) -> list[str]:
    """Return a line of a label file; labels by their column name with '_' for a space."""
    given = {name.replace("_", " "): value for name, value in labels.items()}
    return [prefix + path, "Female", "68", view, "AP" if view == "Frontal" else "", *(given.get(column, "") for column in OBSERVATIONS)]


def write_csv(file: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text, lineterminator="\n").writerows([header, *rows])


def write_chexpert(root: Path, patients: int = 12, *, shape: tuple[int, int] = (20, 26)) -> Path:
    """Write `patients` training patients (every third with effusion, two images each) and four validation patients."""
    rng = np.random.default_rng(0)
    for split, first, count in (("train", 1, patients), ("valid", 1001, 4)):
        rows = []
        for number in range(first, first + count):
            study = f"{split}/patient{number:05d}/study1"
            effusion = "1.0" if number % 3 == 0 else ("" if number % 3 == 1 else "0.0")
            for index, view in enumerate(("frontal", "lateral"), start=1):
                path = f"{study}/view{index}_{view}.jpg"
                rows.append(csv_row(path, view=view.capitalize(), Pleural_Effusion=effusion, Edema="-1.0" if number % 5 == 0 else ""))
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / path), rng.integers(0, 256, shape, dtype=np.uint8))
        write_csv(root / f"{split}.csv", rows)
    return root


def rows_from(patients: Sequence[str], labels: Sequence[float], *, prefix: str = "train/", studies: Sequence[str] | None = None) -> Rows:
    """Return rows with one label, an image each, in the given order."""
    count = len(patients)
    return Rows(
        card="toy",
        images=np.array([f"{prefix}{patient}/image{index:05d}" for index, patient in enumerate(patients)], dtype=str),
        patients=np.array(patients, dtype=str),
        studies=np.array(studies if studies is not None else [f"{patient}/study1" for patient in patients], dtype=str),
        views=np.full(count, "frontal", dtype="<U7"),
        labels=np.array(labels, dtype=np.float32).reshape(count, 1),
        label_names=("finding",),
        position=np.arange(count, dtype=np.int64),
    )
