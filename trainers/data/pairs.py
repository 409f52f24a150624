"""Images with their masks, both drawn by one geometry: whole, as squares, turned, moved, scaled and bent together, and the image shaded.

Every random choice comes from `trainers.data.streams`: a pair is a pure function of (seed, epoch, position, view). Borders are reflected,
image and mask alike (OpenCV's reflect-101), so that what is seen of a structure beyond the border is marked as it is inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from trainers.data import distortions
from trainers.data.access import ImageStore, MaskStore
from trainers.data.streams import uniform
from trainers.data.workers import spread

_MOVED, _ANGLE, _SCALE, _X, _Y, _SHADED, _BRIGHTNESS, _CONTRAST, _GAMMA, _CUT, _CUT_SIDE, _CUT_X, _CUT_Y, _SHADE_KIND = range(14)
_DRAWS = 14
#: Whether it is bent; how stands in the columns behind.
_BENT = _DRAWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """How a pair is drawn. Ranges are uniform; where `p` is below 1 a part is left out with probability 1 - p."""

    #: Shift in plus and minus so much of the side, scale in 1 plus and minus, degrees in plus and minus; all of them or none.
    shift: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    geometry_p: float = 0.5
    #: A square of `cut` (low and high, of the side) from anywhere, brought back to the whole.
    cut: tuple[float, float] = (1.0, 1.0)
    cut_p: float = 0.0
    #: Contrast is a factor in 1 plus and minus this, brightness what is added, of 255.
    brightness: float = 0.0
    contrast: float = 0.0
    shade_p: float = 0.5
    #: Power of pixels in [0, 1], in place of brightness and contrast half of the time; (1, 1) is off.
    gamma: tuple[float, float] = (1.0, 1.0)
    #: One of three distortions, before the cut.
    bend: distortions.Strengths | None = None
    bend_p: float = 0.0
    #: Masks by the nearest pixel rather than bilinear.
    nearest: bool = False


_MOVES = Joint(shift=0.0625, scale=0.1, rotate=10.0, geometry_p=0.5, brightness=0.2, contrast=0.2)
JOINTS: Mapping[str, Joint] = {
    "none": Joint(),
    # BenchmarkTransformersSegmentation 38cf52f, `dataloader.py` 68-75: ShiftScaleRotate, RandomBrightnessContrast of albumentations.
    "published": replace(_MOVES, nearest=True),
    # The same before July 2024 (2ac7496): brightness and contrast or gamma, one of three distortions, RandomSizedCrop. Its lens also shifts
    # by less than half a pixel, which albumentations rounds to none.
    "published_2022": Joint(
        brightness=0.2,
        contrast=0.2,
        gamma=(0.8, 1.2),
        shade_p=0.3,
        bend=distortions.Strengths(alpha=120, sigma=6, affine=3.6, grid=0.3, lens=2.0),
        bend_p=0.3,
        cut=(156 / 224, 1.0),
        cut_p=0.25,
        nearest=True,
    ),
    "joint": _MOVES,
}


def batch(
    images: ImageStore, masks: MaskStore, positions: np.ndarray, px: int, joint: Joint, *, seed: int, epoch: int, view: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return one view of each image, uint8 (n, 1, px, px), and of its masks, uint8 (n, structures, px, px)."""
    wanted = np.asarray(positions)
    count = _DRAWS + (1 + distortions.DRAWS if joint.bend is not None else 0)
    draws = uniform(count, seed=seed, epoch=epoch, positions=wanted, view=view)
    views = np.empty((len(wanted), 1, px, px), np.uint8)
    drawn = np.empty((len(wanted), len(masks.structures), px, px), np.uint8)
    matrices = geometry(draws, px, joint)

    def draw(part: slice) -> None:
        for at in range(*part.indices(len(wanted))):
            position = int(wanted[at])
            image, marked = square(images.image(position), px), masks.mask(position)
            bent = _bent(draws[at], px, joint, matrices[at])
            if matrices[at] is None and bent is None:
                views[at, 0], drawn[at] = image, marked
            else:
                views[at, 0] = _moved(image, matrices[at], bent, cv2.INTER_LINEAR)
                for index, mask in enumerate(marked):
                    drawn[at, index] = _moved(mask, matrices[at], bent, cv2.INTER_NEAREST if joint.nearest else cv2.INTER_LINEAR)
            table = shade(draws[at], joint)
            if table is not None:
                views[at, 0] = cv2.LUT(views[at, 0], table)

    spread(draw, len(wanted))
    return views, drawn


def square(image: np.ndarray, px: int) -> np.ndarray:
    """Return a whole image as a square, uint8 (px, px), by area where it shrinks; its sides are scaled each by its own factor."""
    if image.shape == (px, px):
        return image
    return cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA if px <= min(image.shape) else cv2.INTER_LINEAR)


def geometry(draws: np.ndarray, px: int, joint: Joint) -> list[np.ndarray | None]:
    """Return for each row of draws the 2x3 matrix from an image's pixel (x, y) to its view's, or None where it stays as it is.

    About the centre of the pixels, ((px - 1) / 2, (px - 1) / 2), counter-clockwise for positive angles, as albumentations 1.3.1.
    """
    return [_matrix(row, px, joint) for row in draws]


def _matrix(row: np.ndarray, px: int, joint: Joint) -> np.ndarray | None:
    matrix: np.ndarray | None = None
    if (joint.shift or joint.scale or joint.rotate) and row[_MOVED] < joint.geometry_p:
        centre = ((px - 1) / 2, (px - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, joint.rotate * (2 * row[_ANGLE] - 1), 1 + joint.scale * (2 * row[_SCALE] - 1))
        matrix[:, 2] += px * joint.shift * (2 * row[[_X, _Y]] - 1)
    if joint.cut_p and row[_CUT] < joint.cut_p:
        side = np.floor(px * (joint.cut[0] + (joint.cut[1] - joint.cut[0]) * row[_CUT_SIDE]))
        left, top = np.floor((px - side + 1) * row[[_CUT_X, _CUT_Y]])
        factor = px / side
        # Pixels are areas: the left edge of the cut becomes that of the view.
        cut = np.array([[factor, 0, factor * (0.5 - left) - 0.5], [0, factor, factor * (0.5 - top) - 0.5]])
        matrix = cut if matrix is None else cut @ np.vstack([matrix, [0, 0, 1]])
    return matrix


def shade(row: np.ndarray, joint: Joint) -> np.ndarray | None:
    """Return what each of the 256 levels becomes, uint8 (256,), or None where all stay."""
    if not (joint.brightness or joint.contrast or joint.gamma != (1.0, 1.0)) or row[_SHADED] >= joint.shade_p:
        return None
    levels = np.arange(256) / 255
    if joint.gamma != (1.0, 1.0) and row[_SHADE_KIND] < 0.5:
        shaded = levels ** (joint.gamma[0] + (joint.gamma[1] - joint.gamma[0]) * row[_GAMMA])
    else:
        shaded = levels * (1 + joint.contrast * (2 * row[_CONTRAST] - 1)) + joint.brightness * (2 * row[_BRIGHTNESS] - 1)
    return np.rint(np.clip(shaded, 0, 1) * 255).astype(np.uint8)


def _bent(row: np.ndarray, px: int, joint: Joint, matrix: np.ndarray | None) -> distortions.Maps | None:
    """Return where each pixel of a view that is bent comes from, what follows the distortion included; None where it is not bent.

    `matrix` is of the cut alone: no recipe moves a pair by both a distortion and a shift.
    """
    if joint.bend is None or row[_BENT] >= joint.bend_p:
        return None
    x, y = distortions.maps(row[_BENT + 1 :], px, joint.bend)
    if matrix is None:
        return x, y
    # The maps themselves are cut: pixels are drawn once, and not twice.
    return _cut(x, matrix), _cut(y, matrix)


def _cut(places: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(places, matrix, places.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _moved(image: np.ndarray, matrix: np.ndarray | None, bent: distortions.Maps | None, how: int) -> np.ndarray:
    if bent is not None:
        return cv2.remap(image, *bent, interpolation=how, borderMode=cv2.BORDER_REFLECT_101)
    assert matrix is not None
    return cv2.warpAffine(image, matrix, image.shape[::-1], flags=how, borderMode=cv2.BORDER_REFLECT_101)
