"""What jobs left out because its image is not on disk (`missing: skip`), said of every data set, test splits included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.paths import RunPaths
from jobs.records import read_record
from jobs.spec import JobSpec
from orchestrator.model import Plan

#: Split -> sha256 of the names that were left out -> how many, of how many.
_Splits = dict[str, dict[str, tuple[int, int]]]


def left_out(plan: Plan, run: RunPaths) -> tuple[str, ...]:
    """Return sentences for each data set of which some job left images out, from the records of jobs that have a result."""
    found: dict[str, _Splits] = {}
    for spec in plan.jobs:
        for one in _records(spec, run):
            splits = found.setdefault(str(one["card"]), {})
            for split, facts in one["left_out"].items():
                splits.setdefault(split, {})[str(facts["sha256"])] = (int(facts["images"]), int(facts["of"]))
    return tuple(text for card, splits in sorted(found.items()) for text in _sentences(card, splits))


def _records(spec: JobSpec, run: RunPaths) -> list[Mapping[str, Any]]:
    if not any("missing" in source for source in spec.data.get("sources", ())):
        return []
    path = run.job(spec.job_id).result
    return [one for one in read_record(path).get("data", ()) if one.get("left_out")] if path.exists() else []


def _sentences(card: str, splits: _Splits) -> list[str]:
    same = {split: next(iter(by_digest.values())) for split, by_digest in splits.items() if len(by_digest) == 1}
    parts = [f"{same[split][0]:,} of {same[split][1]:,} of {split}" for split in ("train", "val", "test") if same.get(split, (0,))[0]]
    found = [f"{card}: images are not on disk and were left out (missing: skip): {', '.join(parts)}"] if parts else []
    for split, by_digest in splits.items():
        if len(by_digest) > 1:
            counts = sorted(images for images, _ in by_digest.values())
            found.append(
                f"{card}: jobs left out different images of {split} that are not on disk (missing: skip), from {counts[0]:,} to "
                f"{counts[-1]:,} of them; what they used is not the same"
            )
    return found
