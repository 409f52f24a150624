"""What a run of MLflow was sent, as the run itself says: its tags hold how many points and pictures, and the digests of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from jobs.spec import Json, canonical_json
from orchestrator.mirror.entries import Entry
from orchestrator.mirror.found import KIND

ARTIFACTS, POINTS, PICTURES = "orch.artifacts", "orch.points", "orch.pictures"
#: Tag of a data set that says which part it played.
CONTEXT = "mlflow.data.context"
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


def fresh_pictures(entry: Entry, tags: Mapping[str, str]) -> Mapping[str, bytes]:
    """Return the pictures that a run has not been sent: those after the first ones, or all where the first ones are others."""
    count, _, digest = tags.get(PICTURES, "0 ").partition(" ")
    same = int(count) <= len(entry.pictures) and digest == entry.pictures_digest(int(count))
    return dict(islice(entry.pictures.items(), int(count), None)) if same else entry.pictures


def sent_points(tags: Mapping[str, str]) -> tuple[int, str]:
    """Return how many points a run was sent, and their digest."""
    count, _, digest = tags.get(POINTS, "0 ").partition(" ")
    return int(count), digest


def sent_inputs(known: Any) -> set[tuple[str, str, str]]:
    """Return the data sets that a run of MLflow was given by a sync, without those that people have added."""
    sent: set[tuple[str, str, str]] = set()
    for one in known.inputs.dataset_inputs if known.inputs else ():
        tags = {tag.key: tag.value for tag in one.tags}
        if KIND in tags:
            sent.add((one.dataset.name, one.dataset.digest, tags.get(CONTEXT, "")))
    return sent


def contradicts(known: Any, entry: Entry) -> bool:
    """Tell whether a run holds what its entry does not say: nothing that was sent can be taken back."""
    params, metrics = known.data.params, known.data.metrics
    count, digest = sent_points(known.data.tags)
    return (
        known.info.start_time != entry.started
        or not sent_inputs(known).issubset(one.key for one in entry.inputs)
        or any(entry.params.get(key) != value for key, value in params.items())
        or not entry.metric_keys().issuperset(metrics)
        or any(metrics.get(key, value) != value for key, value in entry.finals.items())
        or count > len(entry.points)
        or (count > 0 and entry.points_digest(count) != digest)
    )
