"""AG-CNN's boxes beside a plain reference: CPU time of one thread for a batch of 64, from feature maps to boxes.

The reference takes image by image: statistic by NumPy, the map enlarged, labelled and measured by SciPy, the largest region by a look at
each label, as the public code has it. Enlarging is where most of its time goes, so it is timed with OpenCV's in place of SciPy's too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tests.bench.rows import Row
from trainers.parts.attention import Attention, attend, heat

BATCH, CHANNELS, SIDE, PX = 64, 1024, 7, 224
ROUNDS = 5
AIM = 10.0


def measure() -> list[Row]:
    """Return one row for the reference with SciPy alone, and one for that with OpenCV."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    maps = torch.relu(torch.randn(BATCH, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    arrays = maps.numpy()
    contestants: dict[str, Callable[[], Any]] = {
        "ours": lambda: attend(heat(maps, "max"), PX, Attention()).boxes,
        "SciPy": lambda: [by_scipy(one, by_zoom) for one in arrays],
        "SciPy and OpenCV": lambda: [by_scipy(one, by_opencv) for one in arrays],
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    boxes: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = time.process_time()
            boxes[name] = run()
            times[name].append(time.process_time() - start)
    middle = {name: statistics.median(values) for name, values in times.items()}
    ours = np.asarray(boxes["ours"])
    found: list[Row] = []
    for name in list(contestants)[1:]:
        same = int((ours == np.asarray(boxes[name])).all(axis=1).sum())
        aim = f", aim {AIM:g}" if name == "SciPy" else ""
        found.append(
            Row(
                what=f"boxes of {BATCH} maps of {CHANNELS} channels at {PX} px",
                ours=f"{1000 * middle['ours']:.1f} ms",
                beside=f"{name}: {1000 * middle[name]:.1f} ms",
                against=f"{middle[name] / middle['ours']:.1f} times{aim}",
                note=f"{same} of {BATCH} boxes the same",
            )
        )
    return found


def by_zoom(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge bilinearly over pixels that are areas."""
    return ndimage.zoom(values, PX / SIDE, order=1, mode="nearest", grid_mode=True)


def by_opencv(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge as OpenCV does."""
    return np.asarray(cv2.resize(values, (PX, PX), interpolation=cv2.INTER_LINEAR), np.float32)


def by_scipy(maps: NDArray[np.float32], enlarge: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> list[int]:
    """Return left, top, right and bottom of the largest region of one image's maps (K, h, w)."""
    heats = enlarge(np.abs(maps).max(axis=0))
    values = (heats - heats.min()) / (heats.max() - heats.min())
    labelled: Any = ndimage.label(values > 0.7, np.ones((3, 3)))
    labels, count = labelled
    sizes = [int((labels == label).sum()) for label in range(1, count + 1)]
    rows, columns = np.nonzero(labels == 1 + int(np.argmax(sizes)))
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
