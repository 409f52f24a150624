"""Writing made data in the real on-disk layout of CheXpert-small, whole or not at all.

<root>/MADE.json                                            generator, version, parameters, counts, digests of the label files
<root>/CheXpert-v1.0-small/train.csv, valid.csv             the 19 real columns
<root>/CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg
<root>/extras/{masks/,boxes.csv,reports.csv,latents.csv}    on request
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from trainers.data.phantom.extras import Extras
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, draw_acquisition, studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS
from trainers.errors import DataError, DiskFull

DATASET = "CheXpert-v1.0-small"
#: The real observation columns, in the order of the real label files.
OBSERVATIONS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *OBSERVATIONS)
#: The real column of each finding.
COLUMN_OF = {
    "effusion": "Pleural Effusion",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "edema": "Edema",
    "pneumothorax": "Pneumothorax",
    "nodule": "Lung Lesion",
}
JPEG_QUALITY = 95
_MADE, _MAKING = "MADE.json", "MAKING.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A made data set on disk."""

    root: Path
    #: The folder that the real set would be: what holds `train.csv` and `valid.csv`.
    dataset: Path
    images: int
    fingerprint: Mapping[str, Any]
    #: False when it was there already.
    written: bool


def write_chexpert(root: Path, parameters: PhantomParameters | None = None, **changes: Any) -> Made:
    """Write a made data set under `root` in CheXpert-small's layout, or return at once when it is there.

    `changes` are fields of `PhantomParameters` that replace those given (or the defaults). The set is written aside and renamed, so that
    `root` holds all of it or nothing; what an interrupted run left is made again; of two processes one writes and the other waits.
    Raises DataError when `root` holds anything else, DiskFull when the disk is full.
    """
    wanted = replace(parameters or PhantomParameters(), **changes)
    root = Path(root).absolute()
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        if (found := _find(root, wanted)) is not None:
            return found
        aside = root.with_name(f".{root.name}.making")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            content = _write(aside, wanted)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno not in (None, errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFull(
                f"{root.parent}: made data could not be written ({error.strerror}): free some space, or set `made_root` in the cluster "
                "config to another disk, then type the same command again"
            ) from error
        shutil.rmtree(root, ignore_errors=True)
        aside.rename(root)
    return _made(root, content, written=True)


def _find(root: Path, wanted: PhantomParameters) -> Made | None:
    """Return what is at `root` when it is whole, None when it must be made. Raises DataError when it is not ours to replace."""
    if not root.exists():
        return None
    if (root / _MADE).is_file():
        content = json.loads((root / _MADE).read_text(encoding="utf-8"))
        fingerprint = {key: content.get(key) for key in wanted.fingerprint()}
        if fingerprint != wanted.fingerprint():
            raise DataError(
                f"{root} holds made data with other parameters ({_difference(fingerprint, wanted)}): delete it, or choose another place"
            )
        whole = all(_digest(root / name) == digest for name, digest in content["sha256"].items())
        return _made(root, content, written=False) if whole else None
    if (root / _MAKING).is_file() or not any(root.iterdir()):
        return None
    raise DataError(f"{root} holds files that are not made data: choose another place, or move them away")


def _difference(found: Mapping[str, Any], wanted: PhantomParameters) -> str:
    asked = wanted.fingerprint()
    if found["version"] != asked["version"]:
        return f"generator version {found['version']}, not {asked['version']}"
    before, now = found.get("parameters") or {}, asked["parameters"]
    changed = [
        f"{name} {before.get(name)!r}, not {now.get(name)!r}" for name in sorted({*before, *now}) if before.get(name) != now.get(name)
    ]
    return "; ".join(changed)


def _made(root: Path, content: Mapping[str, Any], *, written: bool) -> Made:
    fingerprint = {key: content[key] for key in ("generator", "version", "parameters")}
    return Made(root=root, dataset=root / DATASET, images=content["images"], fingerprint=fingerprint, written=written)


def _write(aside: Path, parameters: PhantomParameters) -> dict[str, Any]:
    """Write the whole set into a new folder; `MAKING.json` says whose it is until `MADE.json` says that it is whole."""
    (aside / DATASET).mkdir(parents=True)
    _save(aside / _MAKING, parameters.fingerprint())
    rows: dict[str, list[Sequence[str]]] = {"train": [], "valid": []}
    extras = Extras(aside / "extras") if parameters.extras else None
    for study in studies(parameters):
        folder = Path(DATASET, study.split, f"patient{study.patient:05d}", f"study{study.number}")
        (aside / folder).mkdir(parents=True)
        for index, view in enumerate(study.views, start=1):
            path = folder / f"view{index}_{view}.jpg"
            picture = render(study, view, px=parameters.px, strength=parameters.strength, masks=parameters.extras)
            if not cv2.imwrite(str(aside / path), picture.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise OSError(None, "no image was written")
            rows[study.split].append(row_of(study, view, path.as_posix()))
            if extras is not None:
                extras.add_picture(path.as_posix(), picture, study, view)
        if extras is not None:
            extras.add_study(folder.as_posix(), study)
    for split, lines in rows.items():
        with open(aside / DATASET / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *lines])
    if extras is not None:
        extras.close()
    digests = {name: _digest(aside / name) for name in (f"{DATASET}/train.csv", f"{DATASET}/valid.csv")}
    content = parameters.fingerprint() | {"images": sum(map(len, rows.values())), "sha256": digests}
    _save(aside / _MADE, content)
    (aside / _MAKING).unlink()
    os.sync()
    return content


def row_of(study: Study, view: str, path: str) -> list[str]:
    """Return the row of an image in the label file, as text in the order of `COLUMNS`."""
    values = {COLUMN_OF[name]: value for name, value in zip(FINDINGS, study.labels, strict=True)}
    written = {column: "" if math.isnan(value) else f"{value:.1f}" for column, value in values.items()}
    if study.no_finding:
        written["No Finding"] = "1.0"
    frontal = view == "frontal"
    position = ("AP" if draw_acquisition(study, view).portable else "PA") if frontal else ""
    who = ["Female" if study.anatomy.female else "Male", str(study.anatomy.age), "Frontal" if frontal else "Lateral", position]
    return [path, *who, *(written.get(column, "") for column in OBSERVATIONS)]


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _save(path: Path, content: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, sort_keys=True, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_image(path: Path) -> np.ndarray:
    """Read a written image back, uint8 (px, px). Raises DataError when it cannot be decoded."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded")
    return image
