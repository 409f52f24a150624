"""`report.json`: what the results determine and nothing else, in one order, with numbers that survive another machine's last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

from jobs.spec import Json, pretty_json
from orchestrator.errors import ReportError
from orchestrator.report.values import SCHEMA, Report

#: Significant digits of a number: far more than any page shows, few enough that the order of a sum does not reach them.
DIGITS = 10


def record(report: Report) -> dict[str, Json]:
    """Return the content of `report.json`: flat lists of cells, differences, folds and ledger rows, ready to be read as tables.

    Raises ValueError for a number that is not finite: a report has None where there is no number.
    """
    content = {**_plain(report), "schema": report.schema}
    for name in ("contamination", "further", "pictures"):
        # Most reports have none, and say nothing of it.
        if not content[name]:
            del content[name]
    return content


def text(report: Report) -> str:
    """Return `report.json` as text: sorted keys, one newline at the end."""
    return pretty_json(record(report))


def read(path: Path) -> Report:
    """Return the report that a `report.json` holds. Raises ReportError for a file that is none, or is of another version."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path}: there is no report yet; type: orchestrate report SWEEP") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise ReportError(f"{path}: {error}; write it again: orchestrate report SWEEP") from None


def parse(written: str) -> Report:
    """Return the report that was written as a text. Raises ValueError for a text that holds none."""
    import json

    from pydantic import TypeAdapter, ValidationError

    try:
        content = json.loads(written)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error})") from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"layout {schema} of a report, and this version reads {SCHEMA}")
    try:
        return TypeAdapter(Report).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def _plain(value: object) -> Json:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return rounded(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def rounded(value: float) -> float:
    """Return a number as `report.json` holds it. Raises ValueError for one that is not finite."""
    if not math.isfinite(value):
        raise ValueError(f"a report holds {value}; a number that does not exist is None")
    return float(f"{value:.{DIGITS}g}") + 0.0
