"""Views of images: cropping, turning and shading in one warp a view, and normalisation.

Every random choice comes from `trainers.data.streams`: a view is a pure function of (seed, epoch, position, view).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from trainers.data import exact, windows
from trainers.data.access import ImageStore
from trainers.data.streams import uniform
from trainers.data.workers import spread

#: Mean and sd of pixels in [0, 1], one value or one a channel (RGB order).
NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cxr": ((0.5020,), (0.085585,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    "chestx-ray": ((0.5056,), (0.252,)),
}
_FLIP, _ROTATE, _AREA, _RATIO, _X, _Y, _BRIGHTNESS, _CONTRAST = range(8)
#: A warp reads four pixels for one: a store much finer than the view would alias.
_MOST_SHRINKING = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """How a view is drawn. The window's area is a share of the square on the image's short side; what lies outside is black."""

    #: Uniform in plus and minus so many degrees, about the image's centre.
    rotate: float = 0.0
    #: Probability of a horizontal flip.
    flip: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    #: Width over height, log-uniform.
    ratio: tuple[float, float] = (1.0, 1.0)
    #: Factor on all pixels, uniform in 1 plus and minus this.
    brightness: float = 0.0
    #: Factor on the distance from the view's mean, uniform in 1 plus and minus this.
    contrast: float = 0.0
    #: Where the window lies: `random` or `center`.
    crop: str = "random"
    #: Drawn as torchvision draws on PIL images, pixel for pixel, from a store that was resized so; without `whole` no window; no shading.
    exact: bool = False
    #: The window as torchvision's RandomResizedCrop draws it: a share of the whole image, drawn anew until it fits, up to ten times. It is
    #: flipped and turned once it is cut.
    whole: bool = False

    def __post_init__(self) -> None:
        low, high = self.scale
        narrow, wide = self.ratio
        if not (0 < low <= high and 0 < narrow <= wide and 0 <= self.flip <= 1 and self.crop in ("random", "center")):
            raise ValueError(f"not an augmentation: {self}")
        window = not self.whole and (self.scale, self.ratio) != ((1.0, 1.0), (1.0, 1.0))
        if self.exact and (self.brightness or self.contrast or window or self.crop != "random"):
            raise ValueError(f"no exact way to draw {self}")


AUGMENTS: Mapping[str, Augment] = {
    "none": Augment(crop="center"),
    "crop": Augment(),
    "cxr_paper": Augment(rotate=10.0, flip=0.5),
    "cxr_paper_exact": Augment(rotate=10.0, flip=0.5, exact=True),
    "cxr_plus": Augment(rotate=10.0, scale=(0.6, 1.0), ratio=(0.9, 1.1), brightness=0.2, contrast=0.2),
    "benchmark": Augment(rotate=7.0, flip=0.5, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), whole=True),
    "benchmark_exact": Augment(rotate=7.0, flip=0.5, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), whole=True, exact=True),
    "benchmark_plus": Augment(rotate=7.0, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3), whole=True),
    "resized_crop": Augment(flip=0.5, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), whole=True),
    "simmim": Augment(scale=(0.67, 1.0), ratio=(3 / 4, 4 / 3), whole=True),
    "simmim_flip": Augment(scale=(0.67, 1.0), ratio=(3 / 4, 4 / 3), flip=0.5, whole=True),
}


def batch(store: ImageStore, positions: np.ndarray, px: int, augment: Augment, *, seed: int, epoch: int, view: int = 0) -> np.ndarray:
    """Return one view of each image, uint8 (n, 1, px, px). Raises ValueError when the store is so fine that views would alias."""
    if store.px > _MOST_SHRINKING * px:
        raise ValueError(f"views of {px} px from images of {store.px} px would alias: open the store at {px}")
    wanted = np.asarray(positions)
    draws = uniform(windows.COLUMNS if augment.whole else 8, seed=seed, epoch=epoch, positions=wanted, view=view)
    views = np.empty((len(wanted), 1, px, px), np.uint8)

    def draw(part: slice) -> None:
        images = [store.image(position) for position in wanted[part].tolist()]
        shapes = np.array([image.shape for image in images], dtype=np.float64).reshape(-1, 2)
        if augment.exact and augment.whole:
            for image, window, some, out in zip(
                images, windows.windows(shapes, augment.scale, augment.ratio, draws[part]), draws[part], views[part, 0], strict=True
            ):
                out[:] = exact.resized_crop(image, px, window, flip=augment.flip, rotate=augment.rotate, draws=some)
            return
        if augment.exact:
            for image, some, out in zip(images, draws[part], views[part, 0], strict=True):
                out[:] = exact.view(image, px, flip=augment.flip, rotate=augment.rotate, draws=some)
            return
        make = windows.warp_matrices if augment.whole else warp_matrices
        matrices = make(shapes, px, augment, draws[part])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for image, matrix, out in zip(images, matrices, views[part, 0], strict=True):
            cv2.warpAffine(image, matrix, (px, px), dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        _shade(views[part], augment, draws[part])

    spread(draw, len(wanted))
    return views


def warp_matrices(shapes: np.ndarray, px: int, augment: Augment, draws: np.ndarray) -> np.ndarray:
    """Return for each image the 2x3 matrix from a view's pixel (x, y) to the image's, float64 (n, 2, 3).

    `shapes` is (n, 2): height, width; `draws` is (n, 8) in [0, 1). The image is flipped, turned about its centre (counter-clockwise for
    positive angles), and a window is cut out whose corner pixels become the view's corner pixels.
    """
    height, width = shapes[:, 0], shapes[:, 1]
    short = np.minimum(height, width)
    area = _between(*augment.scale, draws[:, _AREA])
    narrow, wide = np.log(augment.ratio)
    ratio = np.exp(_between(narrow, wide, draws[:, _RATIO]))
    # Never larger than the image, so that black comes from turning alone.
    window_w = np.minimum(short * np.sqrt(area * ratio), width)
    window_h = np.minimum(short * np.sqrt(area / ratio), height)
    left = _corner(width - window_w, draws[:, _X], augment.crop)
    top = _corner(height - window_h, draws[:, _Y], augment.crop)
    step_x = (window_w - 1) / max(px - 1, 1)
    step_y = (window_h - 1) / max(px - 1, 1)
    angle = np.deg2rad(augment.rotate * (2 * draws[:, _ROTATE] - 1))
    cos, sin = np.cos(angle), np.sin(angle)
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    x, y = left - center_x, top - center_y
    matrices = np.empty((len(shapes), 2, 3))
    matrices[:, 0] = np.stack([cos * step_x, -sin * step_y, center_x + cos * x - sin * y], axis=1)
    matrices[:, 1] = np.stack([sin * step_x, cos * step_y, center_y + sin * x + cos * y], axis=1)
    flipped = draws[:, _FLIP] < augment.flip
    matrices[flipped, 0] *= -1
    matrices[flipped, 0, 2] += width[flipped] - 1
    return matrices


def plain(store: ImageStore, positions: np.ndarray, px: int, *, as_published: bool = False) -> np.ndarray:
    """Return the centre square of each image, aspect kept, uint8 (n, 1, px, px); `as_published` cuts as torchvision does, to the pixel."""
    wanted = np.asarray(positions)
    views = np.empty((len(wanted), 1, px, px), np.uint8)

    def draw(part: slice) -> None:
        for position, out in zip(wanted[part].tolist(), views[part, 0], strict=True):
            image = store.image(position)
            if as_published:
                out[:] = exact.centre(image, px)
                continue
            side = min(image.shape)
            top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
            square = image[top : top + side, left : left + side]
            if side == px:
                out[:] = square
            else:
                out[:] = cv2.resize(square, (px, px), interpolation=cv2.INTER_AREA if px < side else cv2.INTER_LINEAR)

    spread(draw, len(wanted))
    return views


def normalize(views: np.ndarray, name: str, channels: int = 1) -> np.ndarray:
    """Return uint8 (n, 1, h, w) as float32 (n, channels, h, w), minus the mean and over the sd of a named normalisation.

    One channel of a normalisation that has three takes the average of means and of sds.
    """
    mean, sd = channel_statistics(name, channels)
    normal = np.empty((len(views), channels, *views.shape[2:]), np.float32)
    for channel in range(channels):
        np.multiply(views[:, 0], np.float32(1 / (255 * sd[channel])), out=normal[:, channel])
        normal[:, channel] -= np.float32(mean[channel] / sd[channel])
    return normal


def channel_statistics(name: str, channels: int = 1) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the means and sds of a named normalisation, one a channel. Raises ValueError on an unknown name."""
    if name not in NORMALISATIONS:
        raise ValueError(f"no normalisation '{name}' among {', '.join(NORMALISATIONS)}")
    mean, sd = NORMALISATIONS[name]
    if len(mean) == channels:
        return mean, sd
    return (sum(mean) / len(mean),) * channels, (sum(sd) / len(sd),) * channels


def _between(low: float, high: float, draw: np.ndarray) -> np.ndarray:
    return low + (high - low) * draw


def _corner(room: np.ndarray, draw: np.ndarray, crop: str) -> np.ndarray:
    """Return where the window starts, on whole pixels, so that a window of the view's own size is copied and not blurred."""
    if crop == "center":
        return np.floor(room / 2)
    return np.minimum(np.floor(draw * (np.floor(room) + 1)), np.floor(room))


def _shade(views: np.ndarray, augment: Augment, draws: np.ndarray) -> None:
    """Shade views (n, 1, px, px) where they are."""
    if not augment.brightness and not augment.contrast:
        return
    brightness = _between(1 - augment.brightness, 1 + augment.brightness, draws[:, _BRIGHTNESS])
    contrast = _between(1 - augment.contrast, 1 + augment.contrast, draws[:, _CONTRAST])
    # Sums of whole numbers are exact in whatever order; OpenCV's takes a twentieth of the time that a mean in float64 does.
    mean = np.array([cv2.sumElems(view)[0] for view in views[:, 0]]) / max(views[0].size if len(views) else 1, 1)
    levels = np.arange(256)[None, :] * (contrast * brightness)[:, None] + ((1 - contrast) * brightness * mean)[:, None]
    tables = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
    for out, table in zip(views[:, 0], tables, strict=True):
        cv2.LUT(out, table, dst=out)
