"""What an AG-CNN looks at, as pictures: the image with mask and box, its heat map, and the patch that is cut out."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from trainers.ag_cnn.network import AgCnn, Seen
from trainers.data.access import Rows
from trainers.parts.outlines import DRAWN, TRUE

#: Side of each part of a picture.
_SIDE = 320


def panel(module: AgCnn, view: NDArray[np.uint8], seen: Seen, index: int) -> NDArray[np.uint8]:
    """Return image, heat map and patch side by side, uint8 (h, w, 3): of the box of the label that scores highest, where each has one."""
    column = 0
    if seen.heats.shape[1] > 1:
        column = int(seen.logits[module.predicts][index, : seen.heats.shape[1]].argmax())
    heats = seen.heats[index : index + 1, column : column + 1].float()
    attended = module.attended(heats)
    large = cv2.resize(view, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if view.shape[0] > _SIDE else cv2.INTER_CUBIC)
    grey = np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), np.uint8)
    warm = cv2.applyColorMap(np.rint(_sized(module.large(heats)[0, 0]) * 255).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
    parts = [
        _marked(grey.copy(), attended.runs.masks()[0], attended.boxes[0], module.config.px),
        cv2.addWeighted(grey, 0.55, warm.copy(), 0.45, 0),
    ]
    if seen.patches is not None:
        patch = seen.patches[index, min(column, seen.patches.shape[1] - 1)].float().mean(0)
        parts.append(cv2.cvtColor(np.clip(np.rint(_sized(patch)), 0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB))
    return np.concatenate(parts, axis=1).astype(np.uint8)


def _sized(values: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values.cpu().numpy().astype(np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR), np.float32)


def _marked(picture: NDArray[np.uint8], mask: torch.Tensor, box: torch.Tensor, px: int) -> NDArray[np.uint8]:
    contours, _ = cv2.findContours((_sized(mask.float()) > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, TRUE, 1, cv2.LINE_AA)
    left, top, right, bottom = (round(value * _SIDE / px) for value in box.tolist())
    cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), DRAWN, 2)
    return picture


def captions(split: str, rows: Rows, labels: tuple[str, ...], module: AgCnn) -> dict[str, str]:
    """Return what each picture shows, by name."""
    named = {"val": "validation", "test": "test"}[split]
    of = "of the label that scores highest, " if module.how.per_class and len(labels) > 1 else ""
    parts = "mask blue and box orange, heat map" + (", patch" if len(module.parts) > 1 else "")
    return {f"{split}-{at + 1}": f"{named} image {image}: {of}{parts}" for at, image in enumerate(rows.images.tolist())}
