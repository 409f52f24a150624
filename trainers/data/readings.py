"""The clinical readings of the Shenzhen and Montgomery sets: a line or two on who the patient is, then what a radiologist saw.

Shenzhen writes `male 45yrs`, and at times `Female14yrs`, `femal 32yrs`, `male 16month` or `female 64days`; Montgomery writes
`Patient's Sex: F` and `Patient's Age: 027Y`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainers.errors import DataError

_SEX = re.compile(r"\b(f|m)(?:e?mal|al|\b)")
_AGE = re.compile(r"(\d+)\s*(y|m|d)?")
#: How many of a unit are a year.
_A_YEAR: Mapping[str, float] = {"y": 1, "m": 12, "d": 365.25}
#: Words of which a reading of tuberculosis has one, as MoCo-CXR's conversion knows them.
_TUBERCULOSIS = ("upper", "lower", "left", "right", "bilateral", "atb", "ptb", "stb", "pleuritis")


def who(file: Path) -> dict[str, str]:
    """Return `sex` (F, M) and `age` (years; months and days as a fraction), empty where the reading does not say or is not there."""
    head = _head(_lines(file))[0] if file.is_file() else ""
    sex, age = _SEX.search(head), _AGE.search(head)
    years = float(age[1]) / _A_YEAR[age[2] or "y"] if age else None
    return {"sex": sex[1].upper() if sex else "", "age": "" if years is None else f"{years:.3g}"}


def tuberculosis(file: Path) -> float:
    """Return what MoCo-CXR makes of a reading: its last line is normal (0), has a word of tuberculosis (1), or neither (0)."""
    if not file.is_file():
        raise DataError(f"{file} is missing, and `labels_from: readings` reads it: copy it again from the release")
    label = 0.0
    for line in _head(_lines(file))[1]:
        label = float("normal" not in line and any(word in line for word in _TUBERCULOSIS))
    return label


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check the disk and the permissions") from error
    # A stray byte in a reading says nothing about the image, and does not make it unusable.
    return [line.strip().lower() for line in content.decode("utf-8", "replace").splitlines() if line.strip()]


def _head(lines: list[str]) -> tuple[str, list[str]]:
    """Return the lines up to the one with the age as one text, and those that follow."""
    count = next((number for number, line in enumerate(lines, start=1) if re.search(r"\d", line)), min(1, len(lines)))
    return " ".join(lines[:count]), lines[count:]
