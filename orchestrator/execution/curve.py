"""One metric of a job, epoch by epoch, read from the files of its attempts while it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import JobPaths


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The value of a metric after an epoch, counted from 1."""

    epoch: int
    value: float


class Curve:
    """Reads what is new at every look. Epochs only go up: what a resumed attempt repeats is not told twice."""

    def __init__(self, job: JobPaths, metric: str) -> None:
        self._job = job
        self._metric = metric
        self._read: dict[Path, int] = {}
        self._epoch = 0

    def news(self) -> list[Reading]:
        """Return the readings that were written since the last look; epochs without a finite value have none."""
        found: list[Reading] = []
        for attempt in self._job.attempts():
            for reading in self._readings(attempt.metrics):
                if reading.epoch > self._epoch:
                    self._epoch = reading.epoch
                    found.append(reading)
        return found

    def _readings(self, path: Path) -> Iterator[Reading]:
        for line in self._lines(path):
            try:
                entry = json.loads(line)
                epoch, value = entry["epoch"], entry["metrics"].get(self._metric)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if isinstance(epoch, int) and isinstance(value, (int, float)) and math.isfinite(value):
                yield Reading(epoch=epoch, value=value)

    def _lines(self, path: Path) -> list[bytes]:
        """Return the whole lines that were added; a line that is still being written waits for the next look."""
        try:
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        return whole.splitlines()
