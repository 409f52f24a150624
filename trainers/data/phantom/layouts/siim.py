"""The layout of SIIM-ACR's pneumothorax challenge.

train-rle.csv, stage_2_train.csv                                a line for each part of a mask, at 1024 x 1024
dicom-images-train/<study>/<series>/<ImageId>.dcm               8 bits, MONOCHROME2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from trainers.data.phantom.files import save_dicom, save_table
from trainers.data.phantom.frontals import frontals, made_id
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.readers.siim import SIDE

_TABLES = ("train-rle.csv", "stage_2_train.csv")


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    rows: list[Sequence[object]] = []
    count = 0
    for one in frontals(parameters, masks=True):
        made = made_id(one.study, length=30)
        uid = f"1.2.276.0.7230010.3.1.4.{int(made, 16)}"
        place = folder / "dicom-images-train" / uid.replace(".4.", ".2.", 1) / uid.replace(".4.", ".3.", 1) / f"{uid}.dcm"
        save_dicom(place, one.picture.image, name=made, facts={"PatientSex": one.sex, "ViewPosition": one.position})
        rows += [[uid, code] for code in _codes(one.picture.masks.get("pneumothorax")) or ["-1"]]
        count += 1
    for name in _TABLES:
        # The released header has a blank before its second name.
        save_table(folder / name, ("ImageId", " EncodedPixels"), rows)
    return count, _TABLES


def _codes(mask: np.ndarray | None) -> list[str]:
    """Return a code for each connected part of a mask."""
    if mask is None or not mask.any():
        return []
    large = cv2.resize(mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT)
    parts, labelled = cv2.connectedComponents(large)
    return [encode_runs(labelled == part) for part in range(1, parts)]


def encode_runs(mask: np.ndarray) -> str:
    """Return the run-length code of a mask (1024, 1024): pairs of the gap since the end of the last run and a length, by column."""
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))
    starts, ends = edges[0::2], edges[1::2]
    gaps = starts - np.concatenate([[0], ends[:-1]])
    return " ".join(f"{gap} {length}" for gap, length in zip(gaps.tolist(), (ends - starts).tolist(), strict=True))
