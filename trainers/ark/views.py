"""What student and teacher see of an image: views of one geometry, or the whole image for the teacher.

As published, a window is cut out (RandomResizedCrop), shifted, scaled and turned with probability .5, and the student's is made brighter or
gets another gamma with probability .3; the teacher's pixels come by nearest neighbour, because it is handed over as the mask of an
albumentations pair. Every draw is a function of (seed, epoch, source, position), so both have the same geometry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from trainers.data import transforms, windows
from trainers.data.access import ImageStore
from trainers.data.streams import uniform
from trainers.data.workers import spread

#: Columns of a view's draws that follow those of the window.
_MOVES, _DX, _DY, _ZOOM, _ANGLE, _LIGHT, _WHICH, _ALPHA, _BETA, _GAMMA = range(windows.COLUMNS, windows.COLUMNS + 10)
_COLUMNS = windows.COLUMNS + 10
#: RandomResizedCrop: share of the image, width over height.
_SCALE, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
#: ShiftScaleRotate: share of the side, of the scale, degrees, probability.
_SHIFT, _ZOOMS, _TURN, _P_MOVE = 0.0625, 0.1, 10.0, 0.5
#: OneOf(brightness and contrast by up to .2, gamma of .8 to 1.2).
_P_LIGHT, _LIGHTS, _GAMMAS = 0.3, 0.2, (0.8, 1.2)

StudentView = Literal["ark", "plus"]
TeacherView = Literal["nearest", "bilinear", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one of the two sees an image: the student's `augment`, and of the teacher in which way it differs."""

    px: int
    augment: StudentView
    #: None for the student.
    teacher: TeacherView | None = None


def views(store: ImageStore, positions: np.ndarray, look: Look, *, seed: int, epoch: int, source: int) -> np.ndarray:
    """Return the view of each image, uint8 (n, 1, px, px)."""
    if look.teacher == "whole":
        return whole(store, positions, look.px)
    if look.augment == "plus":
        augment = transforms.AUGMENTS["cxr_plus"]
        if look.teacher is not None:
            augment = replace(augment, brightness=0.0, contrast=0.0)
        return transforms.batch(store, positions, look.px, augment, seed=seed, epoch=epoch, view=source)
    draws = uniform(_COLUMNS, seed=seed, epoch=epoch, positions=np.asarray(positions), view=source)
    found = np.empty((len(positions), 1, look.px, look.px), np.uint8)

    def draw(part: slice) -> None:
        images = [store.image(position) for position in np.asarray(positions)[part].tolist()]
        shapes = np.array([image.shape for image in images], dtype=np.float64).reshape(-1, 2)
        cuts = windows.windows(shapes, _SCALE, _RATIO, draws[part])
        for image, (top, left, tall, wide), some, out in zip(images, cuts.tolist(), draws[part], found[part, 0], strict=True):
            out[:] = _published(image[top : top + tall, left : left + wide], look, some)

    spread(draw, len(positions))
    return found


def whole(store: ImageStore, positions: np.ndarray, px: int) -> np.ndarray:
    """Return the whole of each image as a square, whatever its shape, uint8 (n, 1, px, px) (Ark+)."""
    found = np.empty((len(positions), 1, px, px), np.uint8)

    def draw(part: slice) -> None:
        for position, out in zip(np.asarray(positions)[part].tolist(), found[part, 0], strict=True):
            image = store.image(position)
            out[:] = image if image.shape == (px, px) else cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)

    spread(draw, len(positions))
    return found


def _published(window: np.ndarray, look: Look, draws: np.ndarray) -> np.ndarray:
    """Return a view of a window of an image, uint8 (px, px)."""
    how = cv2.INTER_NEAREST if look.teacher == "nearest" else cv2.INTER_LINEAR
    view = cv2.resize(window, (look.px, look.px), interpolation=how)
    if draws[_MOVES] < _P_MOVE:
        view = cv2.warpAffine(view, motion(look.px, draws), (look.px, look.px), flags=how, borderMode=cv2.BORDER_REFLECT_101)
    if look.teacher is None and draws[_LIGHT] < _P_LIGHT:
        view = cv2.LUT(view, levels(draws))
    return view


def motion(px: int, draws: np.ndarray) -> np.ndarray:
    """Return the 2x3 matrix that shifts, scales and turns a view about its centre, as albumentations 1.3 does."""
    angle = _TURN * (2 * draws[_ANGLE] - 1)
    zoom = 1 + _ZOOMS * (2 * draws[_ZOOM] - 1)
    matrix = cv2.getRotationMatrix2D((px / 2, px / 2), angle, zoom)
    matrix[:, 2] += _SHIFT * (2 * draws[[_DX, _DY]] - 1) * px
    return matrix


def levels(draws: np.ndarray) -> np.ndarray:
    """Return what each of 256 grey levels becomes: a line (brightness, contrast) or a power (gamma), each with probability one half."""
    grey = np.arange(256, dtype=np.float64)
    if draws[_WHICH] < 0.5:
        changed = grey * (1 + _LIGHTS * (2 * draws[_ALPHA] - 1)) + 255 * _LIGHTS * (2 * draws[_BETA] - 1)
    else:
        low, high = _GAMMAS
        changed = 255 * (grey / 255) ** (low + (high - low) * draws[_GAMMA])
    # Cut to whole levels, not rounded.
    return np.clip(changed, 0, 255).astype(np.uint8)
