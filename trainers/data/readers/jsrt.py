"""JSRT's radiographs with SCR's masks, as released or converted to PNG.

**/JPCLN001.IMG (154 with a nodule), **/JPCNN001.IMG (93 without)     raw, or JPCLN001.IMG.png
**/fold1/masks/left lung/JPCLN001.gif                                 SCR: odd numbers are fold1, even ones fold2
**/masks/left_lung_png/JPCLN001.png                                   SCR's masks converted; both names of folders are understood
**/CLNDAT_EN.txt, **/CNNDAT_EN.txt                                    JSRT's clinical data; need not be there

What a structure is called on disk stands in the card: `left lung + right lung` joins two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.data.cards import Card
from trainers.data.mask_files import read_mask
from trainers.data.tables import Collected, read_text
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows
    from trainers.data.regions import Boxes

_IMAGES = "**/JPC[LN]N[0-9][0-9][0-9].IMG*"
_NAME = re.compile(r"(JPC([LN])N(\d{3}))\.IMG(?:\.png)?")
#: Millimetres a pixel of the raw images, which CLNDAT's coordinates are in.
_PIXEL_MM = 0.175
_CLINICAL = {"L": "CLNDAT_EN", "N": "CNNDAT_EN"}


def base(card: Card, root: Path) -> Path:
    """Return the root: images, masks and clinical data may lie anywhere below it."""
    return root


def read(card: Card, root: Path) -> Rows:
    """Return one row an image, `given` being its fold of SCR. Raises DataError on a name that is none of JSRT's."""
    found = Collected(card)
    clinical = _clinical(card, root) if card.traits else {}
    for image, file in _images(root).items():
        number, nodule = int(image[-3:]), image[3] == "L"
        found.add(
            image,
            patient=image,
            labels=[1.0 if card.task == "segmentation" else float(nodule)] * len(card.labels),
            place=str(file),
            given="fold1" if number % 2 else "fold2",
            traits=clinical.get(image),
        )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image, the raw one where both are there."""
    found = _images(base)
    return [found.get(image, base / f"{image}.IMG") for image in images]


def masks(card: Card, base: Path, image: str) -> Mapping[str, np.ndarray]:
    """Return a mask for each structure of a card of structures. Raises DataError naming what is not there."""
    return {slug: read_mask(files) for slug, files in mask_files(card, base, image).items()}


def mask_files(card: Card, base: Path, image: str) -> Mapping[str, list[Path]]:
    """Return the files that each structure of a card of structures is drawn in. Raises DataError naming what is not there."""
    if card.task != "segmentation":
        return {}
    there = _mask_files(base)
    found: dict[str, list[Path]] = {}
    for slug, written in card.labels.items():
        parts = [part.strip() for part in written.split("+")]
        for part in parts:
            if (part, image) not in there:
                raise DataError(f"data set '{card.name}' has no mask of the {part} of {image} in {base}: is SCR unpacked there?")
        found[slug] = [there[part, image] for part in parts]
    return found


def boxes(card: Card, root: Path) -> Boxes:
    """Return a box around each nodule, in pixels of the raw images: CLNDAT gives its centre and its size in millimetres."""
    import numpy as np

    from trainers.data.regions import Boxes

    if card.task == "segmentation":
        raise DataError(f"card '{card.name}' is one of structures: boxes of nodules are of a card with a label for them, such as 'jsrt'")
    images, corners = [], []
    for image, cells in _clinical_lines(card, root, "L"):
        try:
            half, x, y = float(cells[2]) / _PIXEL_MM / 2, float(cells[5]), float(cells[6])
        except (IndexError, ValueError) as error:
            raise DataError(f"{_CLINICAL['L']}: the line of {image} has no size and place of a nodule") from error
        images.append(image)
        corners.append((x - half, y - half, x + half, y + half))
    if not images:
        raise DataError(f"data set '{card.name}' has no CLNDAT_EN.txt below {root}: copy JSRT's clinical data there")
    return Boxes(images=np.array(images), labels=np.full(len(images), card.primary), corners=np.array(corners, dtype=np.float64))


def _images(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(root.glob(_IMAGES), key=lambda file: file.name):
        name = _NAME.fullmatch(file.name)
        if name is None:
            raise DataError(f"{file}: is no image of JSRT, such as JPCLN001.IMG or JPCLN001.IMG.png")
        found.setdefault(name[1], file)
    return found


@lru_cache(maxsize=8)
def _mask_files(base: Path) -> Mapping[tuple[str, str], Path]:
    """Return the mask file of each (structure, image). The folders are walked once a process."""
    return {
        (file.parent.name.removesuffix("_png").replace("_", " "), file.stem): file
        for file in sorted(base.glob("**/masks/*/JPC*"))
    }  # fmt: skip


def _clinical(card: Card, root: Path) -> dict[str, dict[str, str]]:
    """Return sex (F, M) and age of each image, as far as the clinical data is there and says so."""
    found: dict[str, dict[str, str]] = {}
    for kind in _CLINICAL:
        for image, cells in _clinical_lines(card, root, kind):
            text = " ".join(cells[3:5] if kind == "L" else cells[1:3])
            age, sex = re.search(r"\d+", text), re.search(r"\b([FM])(?:emale|ale)\b", text, re.IGNORECASE)
            found[image] = {"age": age[0] if age else "", "sex": sex[1].upper() if sex else ""}
    return found


def _clinical_lines(card: Card, root: Path, kind: str) -> list[tuple[str, list[str]]]:
    """Return (image, cells) of each line of the clinical data: tabs where there is a nodule, blanks where there is none."""
    files = sorted(file for file in root.glob(f"**/{_CLINICAL[kind]}.*") if file.suffix.lower() == ".txt")
    if not files:
        return []
    lines = [line.strip() for line in read_text(card, files[0]).replace("\r", "\n").split("\n")]
    named = [re.split(r"\t" if kind == "L" else r"\s+", line) for line in lines if re.match(rf"JPC{kind}N\d{{3}}\.", line)]
    return [(cells[0].partition(".")[0], [cell.strip() for cell in cells]) for cells in named]
