"""ChestX-Det10's layout.

train.json, test.json
train_data/00000001_000.png, test_data/...
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from trainers.data.phantom.extras import boxes
from trainers.data.phantom.files import save_image
from trainers.data.phantom.frontals import Frontal, frontals
from trainers.data.phantom.parameters import PhantomParameters

#: Neither an enlarged heart nor edema is among the ten.
COLUMN_OF = {"effusion": "Effusion", "consolidation": "Consolidation", "pneumothorax": "Pneumothorax", "nodule": "Nodule"}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    follow_up: dict[int, int] = defaultdict(int)
    for one in frontals(parameters, masks=True):
        split, patient = "test" if one.split == "test" else "train", one.study.patient
        name = f"{patient:08d}_{follow_up[patient]:03d}.png"
        follow_up[patient] += 1
        save_image(folder / f"{split}_data" / name, one.picture.image)
        found = _boxes(one)
        entries[split].append({"file_name": name, "syms": [kind for kind, _ in found], "boxes": [box for _, box in found]})
    for split, content in entries.items():
        (folder / f"{split}.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    return sum(map(len, entries.values())), ("train.json", "test.json")


def _boxes(one: Frontal) -> list[tuple[str, list[int]]]:
    """Return class and corners of each part of a finding: as it is, since every image was read by three."""
    return [
        (column, [left, top, left + width, top + height])
        for finding, column in COLUMN_OF.items()
        if finding in one.picture.masks
        for left, top, width, height in boxes(one.picture.masks[finding])
    ]
