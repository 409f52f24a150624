"""Kermany's layout; consolidations stand in for bacterial pneumonia, edema for viral pneumonia.

chest_xray/{train,test}/NORMAL/IM-0001-0001.jpeg
chest_xray/{train,test}/PNEUMONIA/person1_bacteria_1.jpeg
"""

from __future__ import annotations

from pathlib import Path

from trainers.data.phantom.calls import called
from trainers.data.phantom.files import save_image
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render

_SPLITS = {"train": "train", "valid": "test"}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has. It has no label files."""
    count = 0
    for study in studies(parameters):
        kind = "bacteria" if called(study, "consolidation") else "virus" if called(study, "edema") else ""
        name = f"person{study.patient}_{kind}_{count + 1}" if kind else f"IM-{study.patient:04d}-{study.number:04d}"
        place = folder / "chest_xray" / _SPLITS[study.split] / ("PNEUMONIA" if kind else "NORMAL")
        save_image(place / f"{name}.jpeg", render(study, "frontal", px=parameters.px, strength=parameters.strength).image)
        count += 1
    return count, ()
