"""What a study is called in data sets whose labels are not the six findings: one of them stands in for each."""

from __future__ import annotations

from trainers.data.phantom.patients import Study
from trainers.data.phantom.sources import FINDINGS


def called(study: Study, *findings: str) -> bool:
    """Tell whether a study's reader called one of some findings present; an uncertain call is none."""
    return any(study.labels[FINDINGS.index(name)] == 1 for name in findings)
