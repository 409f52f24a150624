"""How far a running job is: its last epoch and step, and the curve of what its pick chooses by, from the files of its attempts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.paths import JobPaths
from jobs.spec import JobSpec

#: So much of the end of a metrics file is read.
TAIL_BYTES = 65_536
_BARS = "▁▂▃▄▅▆▇█"
LOSS = "loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is."""

    step: int | None = None
    epoch: int | None = None
    #: The metric that its pick chooses by once there is a value of it, else its loss; empty while there is none.
    metric: str = ""
    #: Its values, oldest first, each step once.
    values: tuple[float, ...] = ()


def progress_of(spec: JobSpec, paths: JobPaths) -> Progress:
    """Read how far a job is; what a later attempt repeats counts once."""
    lines = [line for attempt in paths.attempts() for line in read_tail(attempt.metrics)]
    if not lines:
        return Progress()
    asked = spec.config.get("monitor")
    monitor = asked.get("metric") if isinstance(asked, Mapping) else asked
    by_name: dict[str, dict[int, float]] = {}
    for line in lines:
        for name, value in line["metrics"].items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                by_name.setdefault(name, {})[line["step"]] = float(value)
    metric = monitor if monitor in by_name else next(iter(_losses(by_name)), "")
    last = max(lines, key=lambda line: line["step"])
    curve = by_name.get(str(metric), {})
    return Progress(step=last["step"], epoch=last["epoch"], metric=str(metric), values=tuple(curve[step] for step in sorted(curve)))


def _losses(names: Iterable[str]) -> list[str]:
    """Return the names of losses, the training's own first."""
    return sorted((name for name in names if LOSS in name.rpartition("/")[2]), key=lambda name: (not name.startswith("train/"), name))


def read_tail(file: Path) -> Iterator[Mapping]:
    """Yield the whole lines at the end of a metrics file that are what they should be."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(0, size - TAIL_BYTES))
            text = opened.read()
    except FileNotFoundError:
        return
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int) and isinstance(entry.get("metrics"), dict):
            yield {"epoch": None} | entry


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Draw the last values as a row of bars, lowest to highest of those shown; one value is a bar of half height."""
    shown = values[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high == low:
        return _BARS[3] * len(shown)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in shown)
