"""How well what a method looked at agrees with the boxes of a card: read after the choice, and chosen on nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.access import Access, Rows
from trainers.data.regions import Boxes
from trainers.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """Where a method looked in rows, in pixels of their files; the second axis is its labels, or 1 where it looks once for all."""

    boxes: NDArray[np.float64]  # (n, L or 1, 4): left, top, right, bottom, right and bottom just outside
    #: Where the heat map is highest.
    peaks: NDArray[np.float64]  # (n, L or 1, 2): x, y


def localisation(method: Any, access: Access, rows: Rows, labels: tuple[str, ...], prefix: str) -> dict[str, Any]:
    """Return `localisation` of a result, and its `metrics` by name, of a method with `located(rows)` on a card with boxes; else nothing.

    Of each label, over the images that have a box of it: the mean best IoU, the mean best intersection over the area of the method's box
    (IoBB, Wang et al. 2017), and the share of images whose peak lies in a box (the pointing game, Zhang et al. 2016).
    """
    locate = getattr(method, "located", None)
    if locate is None:
        return {}
    try:
        boxes = access.boxes(rows)
    except DataError as error:
        return {"localisation": {"status": "boxes cannot be read", "why": str(error)}}
    if boxes is None:
        return {}
    wanted = np.isin(rows.images, boxes.images)
    if not wanted.any():
        return {"localisation": {"status": "no image of this split has a box"}}
    there = rows.take(wanted)
    found: Located | None = locate(there)
    if found is None:
        return {}
    measured = {label: agreement(found, there, boxes, label, method.labels.index(label)) for label in labels}
    measured = {label: values for label, values in measured.items() if values["images"]}
    return {
        "localisation": {"status": "measured", "labels": measured},
        "metrics": {f"{prefix}/{name}/{label}": values[name] for label, values in measured.items() for name in ("iou", "iobb", "pointing")},
    }


def agreement(found: Located, rows: Rows, boxes: Boxes, label: str, column: int) -> dict[str, float | int]:
    """Return `images` that have a box of a label, and the means over them: `iou`, `iobb`, `pointing`."""
    column = min(column, found.boxes.shape[1] - 1)
    each: list[tuple[float, float, bool]] = []
    for index, image in enumerate(rows.images.tolist()):
        true = boxes.corners[(boxes.images == image) & (boxes.labels == label)]
        if len(true):
            shared, mine, theirs = overlap(found.boxes[index, column], true)
            x, y = found.peaks[index, column]
            hit = (true[:, 0] <= x) & (x < true[:, 2]) & (true[:, 1] <= y) & (y < true[:, 3])
            each.append((float((shared / (mine + theirs - shared)).max()), float((shared / mine).max()), bool(hit.any())))
    if not each:
        return {"images": 0}
    iou, iobb, hits = np.mean(np.array(each, np.float64), axis=0).tolist()
    return {"images": len(each), "iou": iou, "iobb": iobb, "pointing": hits}


def overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """Return the areas that a box (4,) shares with others (n, 4), its own area, and theirs."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    own = float(np.prod(box[2:] - box[:2]))
    return np.prod(sides.clip(min=0), axis=1), own, np.prod(others[:, 2:] - others[:, :2], axis=1)
