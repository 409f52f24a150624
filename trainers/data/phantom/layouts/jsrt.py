"""The layout of JSRT with SCR.

All247images/JPCLN001.IMG        the first image as JSRT has it: 2048 x 2048, big-endian, 12 bits, white where the number is small
All247images/JPCLN003.IMG.png    the others as PNG: raw ones are 8 MB each
scr/fold1/masks/left lung/JPCLN001.gif and so on, five structures
Clinical_Information/CLNDAT_EN.txt, CNNDAT_EN.txt
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from trainers.data.phantom.calls import called
from trainers.data.phantom.canvas import Canvas
from trainers.data.phantom.files import save_image, save_text
from trainers.data.phantom.findings import heart_growth
from trainers.data.phantom.frontal import SIDES, frontal_anatomy
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, draw_acquisition, studies
from trainers.data.phantom.render import Picture, pose_of, render
from trainers.data.phantom.sources import FINDINGS

_RAW_SIDE, _MOST = 2048, 4095


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder, an image a patient; return how many images it has, and its label files."""
    numbers = {"L": 0, "N": 0}
    label_files: list[str] = []
    clinical: dict[str, list[str]] = {"L": [], "N": []}
    for study in studies(parameters):
        if study.number > 1:
            continue
        kind = "L" if called(study, "nodule") else "N"
        numbers[kind] += 1
        name = f"JPC{kind}N{numbers[kind]:03d}"
        picture = render(study, "frontal", px=parameters.px, strength=parameters.strength, masks=True)
        _save(folder / "All247images" / f"{name}.IMG", picture.image, raw=sum(numbers.values()) == 1)
        for structure, mask in structures(study, picture).items():
            label_files.append(f"scr/fold{1 if numbers[kind] % 2 else 2}/masks/{structure}/{name}.gif")
            # With four channels the encoder does not dither.
            save_image(folder / label_files[-1], np.dstack([mask.astype(np.uint8) * 255] * 4))
        clinical[kind].append(_line(name, study, picture))
    for kind, file in (("L", "CLNDAT_EN.txt"), ("N", "CNNDAT_EN.txt")):
        save_text(folder / "Clinical_Information" / file, "\r".join((*clinical[kind], "")))
    return sum(numbers.values()), tuple(label_files)


def structures(study: Study, picture: Picture) -> dict[str, np.ndarray]:
    """Return the mask of each of SCR's five structures, bool (px, px), by its name there."""
    acquisition = draw_acquisition(study, "frontal")
    canvas = Canvas(picture.image.shape[0], pose_of(acquisition))
    growth = heart_growth(study.lesions[FINDINGS.index("cardiomegaly")], 1.0)
    clavicles = frontal_anatomy(study.anatomy, acquisition, growth).clavicles
    found = {f"{side} lung": picture.masks[f"lung_{side}"] for side in SIDES} | {"heart": picture.masks["heart"]}
    return found | {f"{side} clavicle": canvas.fill(outline) > 0.5 for side, outline in zip(SIDES, clavicles, strict=True)}


def _save(path: Path, image: np.ndarray, *, raw: bool) -> None:
    if not raw:
        save_image(path.with_name(f"{path.name}.png"), image)
        return
    large = cv2.resize(image, (_RAW_SIDE, _RAW_SIDE), interpolation=cv2.INTER_NEAREST).astype(np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.round(_MOST - large * (_MOST / 255)).astype(">u2").tobytes())


def _line(name: str, study: Study, picture: Picture) -> str:
    """Return the line of an image in the clinical data; coordinates are those of the raw image."""
    who = (str(study.anatomy.age), "Female" if study.anatomy.female else "Male")
    if name[3] == "N":
        return " ".join((f"{name}.IMG", *who, "non-nodule"))
    mask = picture.masks.get("nodule")
    rows, columns = np.nonzero(mask) if mask is not None and mask.any() else np.array([[0], [0]])
    scale = _RAW_SIDE / picture.image.shape[0]
    x, y = (round((float(values.mean()) + 0.5) * scale) for values in (columns, rows))
    return "\t".join((f"{name}.IMG", "3", "20", *who, str(x), str(y), "malignant", "l.upper lobe(S1)", "lung cancer"))
