"""A table of one's own, `images.csv`: path, patient, study, view, split, sex, age and a column a finding; images lie below `images`."""

from __future__ import annotations

import math
from pathlib import Path

from trainers.data.phantom.files import save_image, save_table
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS

TABLE = "images.csv"
COLUMNS = ("path", "patient", "study", "view", "split", "sex", "age", *FINDINGS)
_SPLITS = {"train": "train", "valid": "test"}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    rows: list[list[str]] = []
    for study in studies(parameters):
        labels = ["" if math.isnan(value) else f"{value:g}" for value in study.labels]
        who = ["F" if study.anatomy.female else "M", str(study.anatomy.age)]
        for view in study.views:
            path = f"p{study.patient}/s{study.number}_{view}.png"
            picture = render(study, view, px=parameters.px, strength=parameters.strength)
            save_image(folder / "images" / path, picture.image)
            rows.append([path, f"p{study.patient}", str(study.number), view, _SPLITS[study.split], *who, *labels])
    save_table(folder / TABLE, COLUMNS, rows)
    return len(rows), (TABLE,)
