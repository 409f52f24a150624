"""The layout of the COVID-19 Radiography Database: findings stand in for its classes.

COVID-19_Radiography_Dataset/{COVID,Lung_Opacity,Normal,Viral Pneumonia}/{images,masks}/COVID-1.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainers.data.phantom.calls import called
from trainers.data.phantom.files import save_image
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, studies
from trainers.data.phantom.render import render

_SET = "COVID-19_Radiography_Dataset"
#: The first class whose findings a study has; the last has none.
_CLASSES = {
    "COVID": ("consolidation",),
    "Lung_Opacity": ("effusion", "edema"),
    "Viral Pneumonia": ("nodule", "pneumothorax"),
    "Normal": (),
}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has. It has no label files."""
    numbers = dict.fromkeys(_CLASSES, 0)
    everyone = list(studies(parameters))
    for study, name in zip(everyone, _classes_of(everyone), strict=True):
        numbers[name] += 1
        picture = render(study, "frontal", px=parameters.px, strength=parameters.strength, masks=True)
        lungs = picture.masks["lung_left"] | picture.masks["lung_right"]
        file = f"{name}-{numbers[name]}.png"
        save_image(folder / _SET / name / "images" / file, picture.image)
        save_image(folder / _SET / name / "masks" / file, lungs.astype(np.uint8) * 255)
    return sum(numbers.values()), ()


def _classes_of(everyone: Sequence[Study]) -> list[str]:
    """Return the class of each study. A release has images of every class: of a few studies some are called what nobody is."""
    found = [next(name for name, findings in _CLASSES.items() if not findings or called(study, *findings)) for study in everyone]
    for name in _CLASSES:
        often = max(_CLASSES, key=found.count)
        if name not in found and found.count(often) > 1:
            found[len(found) - 1 - found[::-1].index(often)] = name
    return found
