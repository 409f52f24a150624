"""Reports say what labels and sides say, and nothing else."""

from __future__ import annotations

import dataclasses
import math

from hypothesis import given
from hypothesis import strategies as st

from trainers.data.phantom.findings import side_named
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies_of
from trainers.data.phantom.sources import FINDINGS
from trainers.data.phantom.text import NAMES, report

LABELS = st.tuples(*[st.sampled_from([1.0, 0.0, -1.0, math.nan]) for _ in FINDINGS])


@given(labels=LABELS, patient=st.integers(1, 40))
def test_every_mentioned_label_is_said_once_and_no_other(labels: tuple[float, ...], patient: int) -> None:
    study = dataclasses.replace(studies_of(PhantomParameters(), patient, "train")[0], labels=labels)
    text = report(study).lower()
    positive, _, rest = text.partition("possible") if "possible" in text else text.partition("no ")
    for name, label, lesion in zip(FINDINGS, labels, study.lesions, strict=True):
        assert text.count(NAMES[name]) == (0 if math.isnan(label) else 1)
        if label == 1:
            assert NAMES[name] in positive
            side = side_named(name, lesion)
            called = {"none": NAMES[name], "both": f"bilateral {NAMES[name]}s"}.get(side, f"{side} {NAMES[name]}")
            assert f"{called}." in positive
        elif label == -1:
            assert f"possible {NAMES[name]}." in text
        elif label == 0:
            assert NAMES[name] in rest


def test_a_report_reads_like_one() -> None:
    study = studies_of(PhantomParameters(), 1, "train")[0]
    lesions = tuple(dataclasses.replace(lesion, side="both") for lesion in study.lesions)
    some = dataclasses.replace(study, labels=(1.0, 1.0, math.nan, -1.0, 0.0, 0.0), lesions=lesions)
    assert report(some) == "Bilateral pleural effusions. Cardiomegaly. Possible pulmonary edema. No pneumothorax or lung nodule."
    assert report(dataclasses.replace(study, labels=(0.0,) * 6)) == (
        "No pleural effusion, cardiomegaly, consolidation, pulmonary edema, pneumothorax or lung nodule."
    )
    assert report(dataclasses.replace(study, labels=(math.nan,) * 6)) == ""
