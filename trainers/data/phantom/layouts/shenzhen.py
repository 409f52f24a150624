"""The Shenzhen set's layout; consolidations and nodules stand in for tuberculosis.

ChinaSet_AllFiles/CXR_png/CHNCXR_0001_0.png
ChinaSet_AllFiles/ClinicalReadings/CHNCXR_0001_0.txt     male 45yrs, normal
ChinaSet_AllFiles/mask/CHNCXR_0001_0_mask.png            for five images of six, as in the real set
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.data.phantom.calls import called
from trainers.data.phantom.files import save_image, save_text
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render

_SET = "ChinaSet_AllFiles"


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder, an image a patient; return how many images it has, and its label files."""
    count, readings = 0, []
    for study in studies(parameters):
        if study.number > 1:
            continue
        sick = called(study, "consolidation", "nodule")
        name = f"CHNCXR_{study.patient:04d}_{int(sick)}"
        picture = render(study, "frontal", px=parameters.px, strength=parameters.strength, masks=True)
        save_image(folder / _SET / "CXR_png" / f"{name}.png", picture.image)
        if study.patient % 6:
            lungs = picture.masks["lung_left"] | picture.masks["lung_right"]
            save_image(folder / _SET / "mask" / f"{name}_mask.png", lungs.astype(np.uint8) * 255)
        sex = "female" if study.anatomy.female else "male"
        seen = "STB" if sick else "normal"
        readings.append(f"{_SET}/ClinicalReadings/{name}.txt")
        save_text(folder / readings[-1], f"{sex} {study.anatomy.age}yrs\r\n{seen}\r\n")
        count += 1
    return count, tuple(readings)
