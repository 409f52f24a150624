"""Series of a trial: what its attempts logged, one value a step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.paths import AttemptPaths
from orchestrator.mirror.entries import SERIES_KEYS, KeyBudget, Point, clean_key, finite


def points_of(attempts: Sequence[tuple[AttemptPaths, int]]) -> tuple[Point, ...]:
    """Return the series by (key, step), in the order in which they were written.

    The first attempt that logged a step stands: a resumed attempt repeats it exactly, and what was sent once never has to be taken
    back, so that a requeued job goes on in its own run. A torn last line, left by a kill, is no line.
    """
    budget = KeyBudget(SERIES_KEYS)
    points: dict[tuple[str, int], Point] = {}
    for attempt, started in attempts:
        for line in _lines(attempt.metrics):
            values = {clean_key(key): value for key, value in finite(line["metrics"]).items()}
            for key in sorted(budget.admit(values)):
                points.setdefault((key, int(line["step"])), Point(key, int(line["step"]), values[key], started))
    return tuple(points.values())


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield entry
