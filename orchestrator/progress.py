"""How far a running job is: its last epoch and step, and the curve of what its pick chooses by, from the files of its attempts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.events import read_events
from jobs.paths import AttemptPaths, JobPaths
from jobs.spec import EventKind, JobSpec

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
    #: How many epochs it will have; None for what does not count in epochs.
    epochs: int | None = None
    #: Images a second of the running attempt, where its config has a batch size; None until two moments of it are known.
    images_per_second: float | None = None
    #: Seconds until its last epoch ends, at the pace of the running attempt.
    seconds_left: float | None = None


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
    epochs, batch = (spec.config.get(key) if isinstance(spec.config.get(key), int) else None for key in ("epochs", "batch_size"))
    pace = _steps_per_second(paths.attempts()[-1])
    return Progress(
        step=last["step"],
        epoch=last["epoch"],
        metric=str(metric),
        values=tuple(curve[step] for step in sorted(curve)),
        epochs=epochs,
        images_per_second=pace * batch if pace and batch else None,
        seconds_left=_seconds_left(lines, epochs, pace),
    )


def _steps_per_second(attempt: AttemptPaths) -> float | None:
    """Return how fast an attempt goes: between its last two saves, else from its start to what it logged last."""
    lines = list(read_tail(attempt.metrics))
    if not lines:
        return None
    moments = [
        (lines[0]["step"] - 1 if event["kind"] == EventKind.STARTED else event["step"], event["time"])
        for event in read_events(attempt.events)
        if event["kind"] in (EventKind.STARTED, EventKind.CHECKPOINTED)
    ]
    if len(moments) < 3:
        moments = [*moments[:1], (max(line["step"] for line in lines), attempt.metrics.stat().st_mtime)]
    if len(moments) < 2:
        return None
    (first, begun), (last, ended) = moments[-2:]
    return (last - first) / (ended - begun) if ended > begun and last > first else None


def _seconds_left(lines: Sequence[Mapping], epochs: int | None, pace: float | None) -> float | None:
    """Return how long the epochs that are left take; None before the first has ended."""
    ended = max((line["epoch"] or 0 for line in lines), default=0)
    if not epochs or not pace or not ended:
        return None
    # The first line of an epoch's number is written where that epoch ends.
    steps = min(line["step"] for line in lines if line["epoch"] == ended) / ended * epochs
    return max(0.0, steps - max(line["step"] for line in lines)) / pace


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
