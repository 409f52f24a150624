"""CheXpert-small's layout with the official test set beside: of the patients of `valid.csv`, every second one is in `test.csv` instead.

CheXpert-v1.0-small/test.csv                         Path and the labels, as they were released
CheXpert-v1.0-small/test/patient64741/study1/view1_frontal.jpg
"""

from __future__ import annotations

from pathlib import Path

from trainers.data.phantom.layouts.chexpert import COLUMNS, OBSERVATIONS, write_splits
from trainers.data.phantom.parameters import PhantomParameters


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    columns = {"train": COLUMNS, "valid": COLUMNS, "test": ("Path", *OBSERVATIONS)}
    return write_splits(folder, parameters, columns, lambda study: "test" if study.split == "valid" and study.patient % 2 else study.split)
