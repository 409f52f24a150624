"""What jobs left out because its image is not on disk (`missing: skip`), said of every data set, test splits included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.paths import RunPaths
from jobs.records import read_record
from jobs.spec import JobSpec
from orchestrator.model import Plan


def left_out(plan: Plan, run: RunPaths) -> tuple[str, ...]:
    """Return a sentence for each data set of which some job left rows out, from the records of jobs that have a result."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for spec in plan.jobs:
        for one in _records(spec, run):
            found.setdefault(str(one["card"]), {})[str(one["left_out"]["sha256"])] = one["left_out"]["splits"]
    return tuple(text for card, by_digest in sorted(found.items()) if (text := _sentence(card, by_digest)))


def _records(spec: JobSpec, run: RunPaths) -> list[Mapping[str, Any]]:
    if not any("missing" in source for source in spec.data.get("sources", ())):
        return []
    path = run.job(spec.job_id).result
    return [one for one in read_record(path).get("data", ()) if one.get("left_out")] if path.exists() else []


def _sentence(card: str, by_digest: Mapping[str, Mapping[str, Any]]) -> str:
    if len(by_digest) > 1:
        counts = sorted(sum(one["images"] for one in splits.values()) for splits in by_digest.values())
        return (
            f"{card}: jobs left out different images that are not on disk (missing: skip), from {counts[0]:,} to {counts[-1]:,} of them; "
            "what they were trained and scored on is not the same"
        )
    splits = next(iter(by_digest.values()))
    total, of = (sum(one[key] for one in splits.values()) for key in ("images", "of"))
    if not total:
        return ""
    parts = ", ".join(f"{one['images']:,} of {one['of']:,} of {name}" for name, one in splits.items() if one["images"])
    return f"{card}: {total:,} of {of:,} images are not on disk and were left out (missing: skip): {parts}"
