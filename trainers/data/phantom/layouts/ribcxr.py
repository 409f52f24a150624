"""VinDr-RibCXR's layout: the posterior parts of the ribs as polygons.

data/{train,val}/Vindr_RibCXR_{train,val}_mask.json
data/{train,val}/img/VinDr_RibCXR_train_000.png
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.phantom.canvas import Points
from trainers.data.phantom.files import save_image
from trainers.data.phantom.frontal import RIBS, frontal_anatomy
from trainers.data.phantom.frontals import Frontal, frontals
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import draw_acquisition
from trainers.data.phantom.render import pose_of

#: As the anatomy has them: those of the right lung first, from above.
NAMES = tuple(f"{side}{number}" for side in "RL" for number in range(1, RIBS + 1))


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    content: dict[str, dict[str, dict[str, Any]]] = {split: {"img": {}} | {name: {} for name in NAMES} for split in ("train", "val")}
    for one in frontals(parameters):
        split = "val" if one.split == "test" else "train"
        number = str(len(content[split]["img"]))
        place = Path("data", split, "img", f"VinDr_RibCXR_{split}_{int(number):03d}.png")
        save_image(folder / place, one.picture.image)
        content[split]["img"][number] = place.as_posix()
        for name, polygon in zip(NAMES, _ribs(one, parameters.px), strict=True):
            content[split][name][number] = [{"x": float(x), "y": float(y)} for x, y in np.round(polygon, 3)]
    names = tuple(f"data/{split}/Vindr_RibCXR_{split}_mask.json" for split in content)
    for name, split in zip(names, content, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content[split]) + "\n", encoding="utf-8")
    return sum(len(each["img"]) for each in content.values()), names


def _ribs(one: Frontal, px: int) -> Points:
    """Return the outlines of the ribs in pixels, (20, n, 2)."""
    acquisition = draw_acquisition(one.study, "frontal")
    # How large the heart is moves no rib.
    ribs = frontal_anatomy(one.study.anatomy, acquisition, 1.0).ribs_back
    matrix = pose_of(acquisition).matrix()
    return (ribs @ matrix[:, :2].T + matrix[:, 2] + 1) * px / 2 - 0.5
