"""The Montgomery set's layout; consolidations and nodules stand in for tuberculosis.

MontgomerySet/CXR_png/MCUCXR_0001_0.png
MontgomerySet/ManualMask/{leftMask,rightMask}/MCUCXR_0001_0.png
MontgomerySet/ClinicalReadings/MCUCXR_0001_0.txt         Patient's Sex: F, Patient's Age: 027Y, normal
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.data.phantom.calls import called
from trainers.data.phantom.files import save_image, save_text
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render

_SET = "MontgomerySet"


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder, an image a patient; return how many images it has, and its label files."""
    count, label_files = 0, []
    for study in studies(parameters):
        if study.number > 1:
            continue
        sick = called(study, "consolidation", "nodule")
        name = f"MCUCXR_{study.patient:04d}_{int(sick)}"
        picture = render(study, "frontal", px=parameters.px, strength=parameters.strength, masks=True)
        save_image(folder / _SET / "CXR_png" / f"{name}.png", picture.image)
        for side in ("left", "right"):
            label_files.append(f"{_SET}/ManualMask/{side}Mask/{name}.png")
            save_image(folder / label_files[-1], picture.masks[f"lung_{side}"].astype(np.uint8) * 255)
        sex, seen = "F" if study.anatomy.female else "M", "scars in both apices" if sick else "normal"
        text = f"Patient's Sex: {sex}\nPatient's Age: {study.anatomy.age:03d}Y\n{seen}\n"
        save_text(folder / _SET / "ClinicalReadings" / f"{name}.txt", text)
        count += 1
    return count, tuple(label_files)
