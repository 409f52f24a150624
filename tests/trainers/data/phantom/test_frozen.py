"""The generator is frozen: what version 1 made, it makes.

`frozen.json` holds thumbnails and labels. When a change is meant, raise VERSION, write a decision record, and store `made_now()` again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainers.data.phantom.layouts.chexpert import row_of
from trainers.data.phantom.parameters import VIEWS, PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import SOURCES
from trainers.data.phantom.version import VERSION

FROZEN = Path(__file__).with_name("frozen.json")


def made_now() -> dict[str, Any]:
    """Return 24 thumbnails (8 x 8 gray levels, row by row) and a digest of the labels of 200 patients a source."""
    thumbnails, digests = {}, {}
    for source in range(len(SOURCES)):
        pair = PhantomParameters(patients_train=2, source=source, max_studies=1, views=VIEWS, lateral_share=1.0)
        for study in studies(pair):
            for view in study.views:
                small = cv2.resize(render(study, view, px=64).image, (8, 8), interpolation=cv2.INTER_AREA)
                thumbnails[f"source {source}, patient {study.patient}, {view}"] = small.ravel().tolist()
        many = PhantomParameters(patients_train=150, patients_valid=50, source=source)
        rows = "\n".join(",".join(row_of(study, "frontal", "")) for study in studies(many))
        digests[f"source {source}"] = hashlib.sha256(rows.encode()).hexdigest()
    return {"version": VERSION, "thumbnails": thumbnails, "labels": digests}


def test_nothing_that_is_made_has_changed() -> None:
    frozen, now = json.loads(FROZEN.read_text(encoding="utf-8")), made_now()
    assert now["version"] == frozen["version"]
    assert now["labels"] == frozen["labels"]
    assert now["thumbnails"].keys() == frozen["thumbnails"].keys()
    assert len(now["thumbnails"]) == 24
    for name, thumbnail in frozen["thumbnails"].items():
        assert np.abs(np.subtract(now["thumbnails"][name], thumbnail)).max() <= 1, name
