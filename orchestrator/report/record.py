"""`report.json`: what the results determine and nothing else, in one order, with numbers that survive another machine's last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

from jobs.spec import Json, pretty_json
from orchestrator.report.values import Report

#: Significant digits of a number: far more than any page shows, few enough that the order of a sum does not reach them.
DIGITS = 10


def record(report: Report) -> dict[str, Json]:
    """Return the content of `report.json`: flat lists of cells, differences, folds and ledger rows, ready to be read as tables.

    Raises ValueError for a number that is not finite: a report has None where there is no number.
    """
    return {**_plain(report), "schema": report.schema}


def text(report: Report) -> str:
    """Return `report.json` as text: sorted keys, one newline at the end."""
    return pretty_json(record(report))


def _plain(value: object) -> Json:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return _rounded(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _rounded(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"a report holds {value}; a number that does not exist is None")
    return float(f"{value:.{DIGITS}g}") + 0.0
