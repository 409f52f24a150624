"""A short report of a study that states only what its labels and sides say."""

from __future__ import annotations

import math

from trainers.data.phantom.findings import side_named
from trainers.data.phantom.patients import UNCERTAIN, Study
from trainers.data.phantom.sources import FINDINGS

#: What a report calls a finding: alone, and with a side before it.
NAMES = {
    "effusion": "pleural effusion",
    "cardiomegaly": "cardiomegaly",
    "consolidation": "consolidation",
    "edema": "pulmonary edema",
    "pneumothorax": "pneumothorax",
    "nodule": "lung nodule",
}


def report(study: Study) -> str:
    """Write the report: one sentence a finding that its labels mention, positives first, then uncertain, then one for the absent."""
    labels = dict(zip(FINDINGS, study.labels, strict=True))
    lesions = dict(zip(FINDINGS, study.lesions, strict=True))
    seen = [f"{_sided(name, side_named(name, lesions[name]))}." for name in FINDINGS if labels[name] == 1]
    unsure = [f"Possible {NAMES[name]}." for name in FINDINGS if labels[name] == UNCERTAIN]
    absent = [NAMES[name] for name in FINDINGS if labels[name] == 0]
    none = [f"No {' or '.join(filter(None, [', '.join(absent[:-1]), absent[-1]]))}."] if absent else []
    sentences = [sentence[0].upper() + sentence[1:] for sentence in (*seen, *unsure, *none)]
    if all(math.isnan(value) for value in labels.values()):
        return ""
    return " ".join(sentences)


def _sided(name: str, side: str) -> str:
    called = NAMES[name]
    if side == "none":
        return called
    return f"bilateral {called}s" if side == "both" else f"{side} {called}"
