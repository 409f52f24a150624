"""A folder of images without labels: `<patient>/<study>_<view>.png`."""

from __future__ import annotations

from pathlib import Path

from trainers.data.phantom.files import save_image
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has. It has no label files."""
    count = 0
    for study in studies(parameters):
        for view in study.views:
            picture = render(study, view, px=parameters.px, strength=parameters.strength)
            save_image(folder / f"patient{study.patient:05d}" / f"study{study.number}_{view}.png", picture.image)
            count += 1
    return count, ()
