"""What real sets rarely have and made data can: masks, boxes, reports and the latents that everything was made from."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.data.phantom.patients import Study, draw_acquisition
from trainers.data.phantom.render import Picture
from trainers.data.phantom.sources import FINDINGS
from trainers.data.phantom.text import report


class Extras:
    """Writes `masks/<structure>/<image>.png`, `boxes.csv`, `reports.csv` and `latents.csv` below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._boxes: list[list[Any]] = []
        self._reports: list[list[Any]] = []
        self._latents: list[dict[str, Any]] = []

    def add_picture(self, path: str, picture: Picture, study: Study, view: str) -> None:
        """Store the masks and boxes of one image and the latents that it was made from."""
        name = "_".join(Path(path).with_suffix(".png").parts[-3:])
        for structure, mask in picture.masks.items():
            place = self.folder / "masks" / structure
            place.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(place / name), mask.astype(np.uint8) * 255):
                raise OSError(None, "no mask was written")
            if structure in FINDINGS:
                self._boxes += [[path, structure, *box] for box in boxes(mask)]
        self._latents.append(latents(study, view) | {"Path": path})

    def add_study(self, folder: str, study: Study) -> None:
        """Store the report of one study."""
        self._reports.append([folder, report(study)])

    def close(self) -> None:
        """Write the tables."""
        _table(self.folder / "boxes.csv", [["Path", "finding", "x", "y", "width", "height"], *self._boxes])
        _table(self.folder / "reports.csv", [["Study", "report"], *self._reports])
        names = ["Path", *sorted({name for row in self._latents for name in row} - {"Path"})]
        _table(self.folder / "latents.csv", [names, *([row.get(name, "") for name in names] for row in self._latents)])


def latents(study: Study, view: str) -> dict[str, Any]:
    """Return every number that an image was made from: severities and margins, then nuisances, by name."""
    found: dict[str, Any] = {}
    for name, lesion in zip(FINDINGS, study.lesions, strict=True):
        found |= {f"severity_{name}": lesion.severity, f"margin_{name}": lesion.margin, f"side_{name}": lesion.side}
    return found | nuisances(study, view)


def nuisances(study: Study, view: str) -> dict[str, float]:
    """Return the latents of anatomy and acquisition, which no finding may depend on, by name."""
    found: dict[str, float] = {}
    for kind, values in (("anatomy", asdict(study.anatomy)), ("acquisition", asdict(draw_acquisition(study, view)))):
        for name, value in values.items():
            parts = enumerate(value) if isinstance(value, tuple) else [(None, value)]
            found |= {f"{kind}_{name}" if index is None else f"{kind}_{name}_{index}": float(part) for index, part in parts}
    return found


def boxes(mask: NDArray[np.bool_], smallest: int = 2) -> list[tuple[int, int, int, int]]:
    """Return x, y, width and height in pixels of each connected part of at least `smallest` pixels, from left to right."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return sorted((int(x), int(y), int(w), int(h)) for x, y, w, h, area in stats[1:] if area >= smallest)


def _table(path: Path, rows: list[list[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
