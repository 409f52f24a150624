"""COVIDx's layout with both kinds of lists; consolidations stand in for COVID-19, other findings of the lung for pneumonia.

train.txt, test.txt                          with two classes
train_COVIDx9A.txt, test_COVIDx9A.txt        with three
train/<file>.png, test/<file>.png
"""

from __future__ import annotations

from pathlib import Path

from trainers.data.phantom.calls import called
from trainers.data.phantom.files import save_image, save_text
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render

_SPLITS = {"train": "train", "valid": "test"}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    lists: dict[str, list[str]] = {f"{split}{version}.txt": [] for split in _SPLITS.values() for version in ("", "_COVIDx9A")}
    count = 0
    for study in studies(parameters):
        split = _SPLITS[study.split]
        covid, ill = called(study, "consolidation"), called(study, "effusion", "edema", "nodule", "pneumothorax")
        # Older lists have patients with a blank in their id.
        patient = f"COVID {study.patient}" if covid else f"{study.patient:08d}"
        file = f"{'COVID' if covid else 'image'}-{study.patient}-{study.number}.png"
        three = "COVID-19" if covid else "pneumonia" if ill else "normal"
        save_image(folder / split / file, render(study, "frontal", px=parameters.px, strength=parameters.strength).image)
        source = "sirm" if covid else "rsna"
        lists[f"{split}.txt"].append(f"{patient} {file} {'positive' if covid else 'negative'} {source}\n")
        lists[f"{split}_COVIDx9A.txt"].append(f"{patient} {file} {three} {source}\n")
        count += 1
    for name, lines in lists.items():
        save_text(folder / name, "".join(lines))
    return count, tuple(lists)
