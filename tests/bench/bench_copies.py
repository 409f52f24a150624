"""Images that are the same (`orchestrate data verify --all`): how many copies are found, how many others are taken for one, and how fast.

Chests are made ones at 256 px of all six sources, frontal and lateral, several studies a patient, and the 16 real ones that come along. A
copy is one of them saved again, resized, cut or with other grey values, and is found when both the bits and the thumbnails say so. Others
are all pairs of different images. The search compares random fingerprints with each other; its time is on the wall, with all threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from tests.bench.rows import Row
from trainers.data.decode import read_gray
from trainers.data.duplicates import near
from trainers.data.fingerprints import LEAST_CORRELATION, MOST_DIFFERENT_BITS, fingerprint, thumbnail
from trainers.data.phantom.parameters import parameters_from
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render

REAL = Path(__file__).parents[2] / "trainers" / "data" / "kermany16"
PX, PATIENTS, SOURCES, COPIED, SEARCHED = 256, 40, 6, 20, 20_000


def chests() -> list[np.ndarray]:
    """Return made radiographs of every source."""
    found: list[np.ndarray] = []
    for source in range(SOURCES):
        wanted = {"patients_train": PATIENTS, "px": PX, "source": source, "seed": source, "views": ["frontal", "lateral"]}
        found += [render(study, view, px=PX).image for study in studies(parameters_from(wanted)) for view in study.views]
    return found


def _encoded(image: np.ndarray, suffix: str, *options: int) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(suffix, image, list(options))[1], cv2.IMREAD_GRAYSCALE)
    assert decoded is not None
    return decoded


def _resized(image: np.ndarray, x: float, y: float, how: int = cv2.INTER_AREA) -> np.ndarray:
    return cv2.resize(image, None, fx=x, fy=y, interpolation=how)


def _windowed(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, [2, 98])
    return (np.clip((image - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)


def _cut(image: np.ndarray, share: float) -> np.ndarray:
    height, width = (round(side * share) for side in image.shape)
    return image[height : image.shape[0] - height, width : image.shape[1] - width]


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "PNG": lambda image: _encoded(image, ".png"),
    "JPEG, quality 90": lambda image: _encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 90),
    "JPEG, quality 50": lambda image: _encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 50),
    "half the size": lambda image: _resized(image, 0.5, 0.5),
    "0.7 of the size, without antialiasing, JPEG quality 75": lambda image: _encoded(
        _resized(image, 0.7, 0.7, cv2.INTER_LINEAR), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 75
    ),
    "squeezed to 4:5": lambda image: _resized(image, 0.8, 1.0),
    "12 bits to 8": lambda image: ((image.astype(np.int32) * 16 + 7) >> 4).astype(np.uint8),
    "brighter (power 0.7)": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    "window of percentiles 2 to 98": _windowed,
    "histogram equalised": cv2.equalizeHist,
    "cut by 1 % at each border": lambda image: _cut(image, 0.01),
    "cut by 3 % at each border": lambda image: _cut(image, 0.03),
}


def measure() -> list[Row]:
    """Measure recall of copies, false positives and the search."""
    made, real = chests(), [read_gray(file) for file in sorted(REAL.glob("*.jpg"))]
    rows = [row for name, images in (("made", made), ("real", real)) for row in _of(name, images)]
    return [*rows, *_speed(made)]


def _of(name: str, images: list[np.ndarray]) -> list[Row]:
    bits, thumbs = _described(images)
    one, other = np.triu_indices(len(images), 1)
    distance = (bits[one] != bits[other]).sum(axis=1)
    alike = (thumbs @ thumbs.T)[one, other]
    near_ones = distance <= MOST_DIFFERENT_BITS
    wrong = int((near_ones & (alike >= LEAST_CORRELATION)).sum())
    note = (
        f"closest {distance.min()} of 256 bits apart, most alike {alike.max():.3f}; {int(near_ones.sum()):,} pairs near by their bits alone"
    )
    rows = [Row(what=f"different {name} chests taken for the same", ours=f"{wrong:,} of {len(one):,} pairs", against="aim 0", note=note)]
    chosen = list(range(0, len(images), max(1, len(images) // (COPIED * SOURCES))))
    for kind, copied in KINDS.items():
        copies, small = _described([copied(images[at]) for at in chosen])
        apart = (copies != bits[chosen]).sum(axis=1)
        same = (small * thumbs[chosen]).sum(axis=1)
        found = int(((apart <= MOST_DIFFERENT_BITS) & (same >= LEAST_CORRELATION)).sum())
        note = f"at most {apart.max()} bits apart, at least {same.min():.3f} alike"
        rows.append(Row(what=f"copies of {name} chests found: {kind}", ours=f"{found / len(chosen):.1%} of {len(chosen)}", note=note))
    return rows


def _described(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    prints, thumbs = [fingerprint(image) for image in images], [thumbnail(image) for image in images]
    there = [one for one in prints if one is not None], [one.ravel() for one in thumbs if one is not None]
    assert len(there[0]) == len(there[1]) == len(images)
    return np.unpackbits(np.array(there[0]).view(np.uint8), axis=1), np.array(there[1])


def _speed(images: list[np.ndarray]) -> list[Row]:
    start = time.process_time()
    for image in images:
        fingerprint(image)
    each = (time.process_time() - start) / len(images)
    prints = np.random.default_rng(0).integers(0, 2**64, (SEARCHED, 4), dtype=np.uint64)
    start = time.monotonic()
    found = sum(1 for _ in near(prints, prints))
    seconds = time.monotonic() - start
    assert found == SEARCHED
    whole = seconds * (100_000 / SEARCHED) ** 2
    return [
        Row(what="fingerprint of a decoded image", ours=f"{each * 1e3:.2f} ms"),
        Row(
            what=f"all pairs of {SEARCHED:,} x {SEARCHED:,} fingerprints",
            ours=f"{seconds:.1f} s",
            against=f"100,000 x 100,000 in {whole:.0f} s (extrapolated); aim 600 s",
        ),
    ]
