"""What training sees of an image: UniChest's crop, mirroring, light and RandAugment, drawn on grey images.

The release draws on a grey image three times over. Saturation, hue and grey-scale change nothing of such an image, so what is left of its
ColorJitter(.4, .4, .4, .4) is brightness and contrast, in either order. RandAugment (N = 2, M = 7 of 10): two operations of ten, drawn with
replacement, each done with probability one half. Every draw is a function of (seed, epoch, source, position).
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from trainers.data import windows
from trainers.data.access import ImageStore
from trainers.data.streams import uniform
from trainers.data.workers import spread

_SCALE, _RATIO = (0.2, 1.0), (3 / 4, 4 / 3)
_JITTER = 0.4
#: Operations and their level of 10.
COUNT, MAGNITUDE, _LEVELS = 2, 7, 10
_P_EACH = 0.5
_FILL = 128
OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
)
_FLIP, _ORDER, _BRIGHT, _CONTRAST, _FIRST = (windows.COLUMNS + column for column in range(5))
#: Which operation, whether it is done, and in which direction.
_EACH = 3
COLUMNS = _FIRST + COUNT * _EACH


def strength(operation: str, magnitude: int = MAGNITUDE) -> float:
    """Return the argument of an operation: a factor, a shear, pixels or degrees; 0 for those that have none."""
    share = magnitude / _LEVELS
    if operation in ("brightness", "sharpness"):
        return share * 1.8 + 0.1
    return {"shear": 0.3, "translate": 10.0, "rotate": 30.0}.get(operation.partition("_")[0], 0.0) * share


def published(store: ImageStore, positions: np.ndarray, px: int, *, seed: int, epoch: int, source: int) -> np.ndarray:
    """Return a view of each image, uint8 (n, 1, px, px)."""
    wanted = np.asarray(positions)
    draws = uniform(COLUMNS, seed=seed, epoch=epoch, positions=wanted, view=source)
    found = np.empty((len(wanted), 1, px, px), np.uint8)

    def draw(part: slice) -> None:
        images = [store.image(position) for position in wanted[part].tolist()]
        shapes = np.array([image.shape for image in images], dtype=np.float64).reshape(-1, 2)
        cuts = windows.windows(shapes, _SCALE, _RATIO, draws[part])
        for image, (top, left, tall, wide), some, out in zip(images, cuts.tolist(), draws[part], found[part, 0], strict=True):
            out[:] = _view(image[top : top + tall, left : left + wide], px, some)

    spread(draw, len(wanted))
    return found


def _view(window: np.ndarray, px: int, draws: np.ndarray) -> np.ndarray:
    # Cubic as published where a window grows; one that shrinks is averaged, which a cubic of four pixels would not do.
    shrinks = min(window.shape) > px
    view = cv2.resize(window, (px, px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    if draws[_FLIP] < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    view = _jitter(view, draws)
    for index in range(COUNT):
        which, done, way = draws[_FIRST + index * _EACH : _FIRST + (index + 1) * _EACH]
        if done < _P_EACH:
            view = apply(OPERATIONS[int(which * len(OPERATIONS))], view, sign=1 if way < 0.5 else -1)
    return view


def _jitter(view: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Change brightness and contrast by factors in 1 - .4 to 1 + .4, in either order."""
    bright, contrast = (1 - _JITTER + 2 * _JITTER * draws[column] for column in (_BRIGHT, _CONTRAST))
    grey = np.arange(256, dtype=np.float64)
    for what in ("bright", "contrast") if draws[_ORDER] < 0.5 else ("contrast", "bright"):
        # PIL's image without contrast has the mean, rounded to a whole level.
        levels = grey * bright if what == "bright" else contrast * grey + (1 - contrast) * int(view.mean() + 0.5)
        view = cv2.LUT(view, np.clip(levels, 0, 255).astype(np.uint8))
    return view


def apply(operation: str, view: np.ndarray, *, sign: int = 1, magnitude: int = MAGNITUDE) -> np.ndarray:
    """Return a view, uint8 (h, w), after one operation; `sign` is the direction of those that move it."""
    amount = strength(operation, magnitude)
    if operation == "identity":
        return view
    if operation in ("autocontrast", "equalize", "brightness", "sharpness"):
        image = Image.fromarray(view)
        if operation == "autocontrast":
            return np.asarray(ImageOps.autocontrast(image))
        if operation == "equalize":
            return np.asarray(ImageOps.equalize(image))
        kind = ImageEnhance.Brightness if operation == "brightness" else ImageEnhance.Sharpness
        return np.asarray(kind(image).enhance(amount))
    height, width = view.shape
    return cv2.warpAffine(view, motion(operation, sign * amount, width, height), (width, height), flags=cv2.INTER_LINEAR, borderValue=_FILL)


def motion(operation: str, amount: float, width: int, height: int) -> np.ndarray:
    """Return the 2x3 matrix of an operation that moves a view: from where a pixel is to where it comes to."""
    if operation == "rotate":
        return cv2.getRotationMatrix2D((width / 2, height / 2), amount, 1.0)
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    kind, _, axis = operation.partition("_")
    row = 0 if axis == "x" else 1
    matrix[row, 2 if kind == "translate" else 1 - row] = amount
    return matrix
