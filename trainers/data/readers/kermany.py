"""Kermany's chest X-rays as files whose names say everything: `NORMAL2-IM-1427-0001.jpg`, `person1946_bacteria_4874.jpg`.

Normal patients are `IM-N`, those with pneumonia `personN`; every image is its own study.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.errors import DataError

_NORMAL = re.compile(r"(?:NORMAL2-)?(IM-\d+)(?:-\d+)*")
_PNEUMONIA = re.compile(r"(person\d+)_(?:bacteria|virus)_\d+")


def base(card: Card, root: Path) -> Path:
    """Return the folder that holds the images."""
    return root


def read(card: Card, root: Path) -> Rows:
    """Return one row an image. Raises DataError on a name that says neither normal nor pneumonia."""
    images = sorted({path.relative_to(root).as_posix() for pattern in card.label_files for path in root.glob(pattern)})
    patients: list[str] = []
    labels: list[float] = []
    for image in images:
        stem = Path(image).stem
        normal, pneumonia = _NORMAL.fullmatch(stem), _PNEUMONIA.fullmatch(stem)
        found = normal or pneumonia
        if found is None:
            raise DataError(f"{root / image}: the name says neither normal (IM-0001-0001) nor pneumonia (person1_bacteria_1)")
        patients.append(found.group(1))
        labels.append(0.0 if normal else 1.0)
    return Rows(
        card=card.name,
        images=np.array(images, dtype=str),
        patients=np.array(patients, dtype=str),
        studies=np.array([Path(image).stem for image in images], dtype=str),
        views=np.full(len(images), "frontal", dtype="<U7"),
        labels=np.array(labels, dtype=np.float32).reshape(len(images), 1),
        label_names=card.label_names,
        position=np.arange(len(images), dtype=np.int64),
    )
