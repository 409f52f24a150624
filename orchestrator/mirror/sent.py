"""Which files a run of MLflow was sent, kept in the run's own tags: their digests, over as many tags as they need."""

from __future__ import annotations

import json
from collections.abc import Mapping

from jobs.spec import Json, canonical_json

ARTIFACTS = "orch.artifacts"
#: Letters of one tag. MLflow cuts a longer one at 8,000 without a word, older servers refuse it at 5,000.
LONGEST = 4_900


def is_about_files(tag: str) -> bool:
    """Tell whether a tag is one of those that hold digests of files."""
    return tag == ARTIFACTS or tag.startswith(f"{ARTIFACTS}.")


def sent_files(tags: Mapping[str, str]) -> dict[str, str]:
    """Return path -> digest of what was sent. What cannot be read (a tag that was cut) was not sent: it is sent again."""
    found: dict[str, str] = {}
    for name, value in tags.items():
        if is_about_files(name):
            try:
                found |= json.loads(value)
            except ValueError:
                continue
    return found


def file_tags(files: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags that hold path -> digest of files, each short enough; those that a run has and needs no more are made empty."""
    parts: list[dict[str, Json]] = [{}]
    for path, digest in sorted(files.items()):
        if len(canonical_json({**parts[-1], path: digest})) > LONGEST:
            parts.append({})
        parts[-1][path] = digest
    wanted = {ARTIFACTS if not number else f"{ARTIFACTS}.{number}": canonical_json(part) for number, part in enumerate(parts)}
    return {**{name: "{}" for name in tags if is_about_files(name)}, **wanted}


def shown_tables(paths: list[str]) -> str:
    """Return what MLflow shows as tables of a run, as it keeps it: as many as one tag holds, in order."""
    shown: list[dict[str, Json]] = []
    for path in paths:
        one: dict[str, Json] = {"path": path, "type": "table"}
        if len(canonical_json([*shown, one])) > LONGEST:
            break
        shown.append(one)
    return canonical_json(shown)
