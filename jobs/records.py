"""JSON files of a run root: what is read is what was written, or one sentence says which file to delete."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.spec import JobSpec, Json, spec_from_json
from trainers.errors import Error


def read_record(path: Path) -> dict[str, Json]:
    """Read a JSON mapping. Raises FileNotFoundError, and Error with what to type when the file is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not isinstance(content, dict):
        raise damaged(path, f"a {type(content).__name__}, and not keys and values")
    return content


def read_job(path: Path) -> JobSpec:
    """Read a `job.json`. Raises FileNotFoundError, and Error with what to type when the file is damaged."""
    content = read_record(path)
    try:
        return spec_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def damaged(path: Path, why: str) -> Error:
    """Return the error for a file that is not what was written: whatever lies in a run root is made again from what is left."""
    return Error(f"{path}: damaged ({why}); delete this file and type `orchestrate resume SWEEP`, which makes it again")
