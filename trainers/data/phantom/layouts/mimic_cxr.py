"""MIMIC-CXR-JPG's layout, version 2.1.0, its tables packed.

mimic-cxr-2.0.0-{chexpert,negbio,metadata,split}.csv.gz
mimic-cxr-2.1.0-test-set-labeled.csv                 the test studies' truth, its columns in an order of its own
files/p10/p10000001/s50000011/<dicom_id>.jpg
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainers.data.phantom.files import save_image, save_packed_table, save_table
from trainers.data.phantom.frontals import made_id, split_of
from trainers.data.phantom.layouts.chexpert import COLUMN_OF, OBSERVATIONS
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Stream, Study, draw_acquisition, read, stream, studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS, SOURCES

#: As on disk: in alphabetical order.
LABELS = tuple(sorted(OBSERVATIONS))
_SPLITS = {"train": "train", "val": "validate", "test": "test"}
_METADATA = ("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns")
_TEST_LABELS = "mimic-cxr-2.1.0-test-set-labeled.csv"
#: What keys the reading of the second labeller, beside the study.
_SECOND = 2


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    metadata: list[Sequence[object]] = []
    splits: list[Sequence[object]] = []
    tables: dict[str, list[Sequence[object]]] = {"chexpert": [], "negbio": []}
    radiologists: list[Sequence[object]] = []
    for study in studies(parameters):
        subject, number = numbers(study)
        split = split_of(study, parameters)
        for view in study.views:
            name = "-".join(made_id(study, what=view, length=40)[at : at + 8] for at in range(0, 40, 8))
            picture = render(study, view, px=parameters.px, strength=parameters.strength)
            save_image(folder / "files" / f"p{subject}"[:3] / f"p{subject}" / f"s{number}" / f"{name}.jpg", picture.image)
            metadata.append((name, subject, number, "CHEST (PA AND LAT)", _position(study, view), parameters.px, parameters.px))
            splits.append((name, number, subject, _SPLITS[split]))
        tables["chexpert"].append((subject, number, *_written(study.labels, none=study.no_finding)))
        tables["negbio"].append((subject, number, *_written(_second(study), none=study.no_finding)))
        if split == "test":
            truth = dict(zip(LABELS, _written(tuple(map(float, study.truth)), none=not any(study.truth)), strict=True))
            radiologists.append((number, truth.pop("Lung Opacity"), *truth.values()))
    for name, rows in tables.items():
        save_packed_table(folder / f"mimic-cxr-2.0.0-{name}.csv.gz", ("subject_id", "study_id", *LABELS), rows)
    save_packed_table(folder / "mimic-cxr-2.0.0-metadata.csv.gz", _METADATA, metadata)
    save_packed_table(folder / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), splits)
    others = [label for label in LABELS if label != "Lung Opacity"]
    save_table(folder / _TEST_LABELS, ("study_id", "Airspace Opacity", *others), radiologists)
    names = (f"mimic-cxr-2.0.0-{kind}.csv.gz" for kind in (*tables, "metadata", "split"))
    return len(metadata), (*names, _TEST_LABELS)


def numbers(study: Study) -> tuple[int, int]:
    """Return the subject and the number of a study."""
    return 10_000_000 + study.patient, 50_000_000 + 10 * study.patient + study.number


def _position(study: Study, view: str) -> str:
    """Return a ViewPosition: a lateral picture is `LL` or `LATERAL`, which is the same."""
    if view == "lateral":
        return "LL" if study.patient % 2 else "LATERAL"
    return "AP" if draw_acquisition(study, view).portable else "PA"


def _second(study: Study) -> tuple[float, ...]:
    """Read a study once more; what the first labeller found nothing about, the second finds nothing about."""
    if study.split != "train":
        return study.labels
    margins = np.array([lesion.margin for lesion in study.lesions])
    calls = read(margins, SOURCES[study.source], stream(Stream.READER, *study.key, _SECOND))
    return tuple(np.where(np.isnan(study.labels), np.nan, calls).tolist())


def _written(labels: Sequence[float], *, none: bool) -> list[str]:
    by = {COLUMN_OF[name]: "" if math.isnan(value) else f"{value:.1f}" for name, value in zip(FINDINGS, labels, strict=True)}
    return [("1.0" if none else "") if column == "No Finding" else by.get(column, "") for column in LABELS]
