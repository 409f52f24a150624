"""What the training loop asks of the world, over the files of one attempt."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobs.checkpoints import CheckpointStore
from jobs.events import append_event
from jobs.fencing import is_superseded
from jobs.paths import AttemptPaths
from jobs.pictures import keep_pictures
from jobs.spec import EventKind
from jobs.stopping import Word


class Stopped(Exception):
    """The stage saved and stopped because a signal asked for it, or ended because a later attempt goes on in its place."""


class FileHost:
    """A `trainers.api.Host`: metrics go to `metrics.jsonl`, checkpoints to the job's store, the word to stop is a signal or a file."""

    def __init__(self, attempt: AttemptPaths, store: CheckpointStore, should_stop: Callable[[], bool]) -> None:
        self._attempt = attempt
        self._store = store
        self._should_stop = should_stop
        self._word = Word(attempt)
        #: Held while something is written that a process should not be ended in the middle of.
        self.writing = threading.Lock()
        self._metrics = attempt.metrics.open("a", encoding="utf-8", buffering=1)

    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append one line of metrics; values that are not finite are written as null."""
        values = {name: float(value) if math.isfinite(value) else None for name, value in metrics.items()}
        self._metrics.write(json.dumps({"step": step, "epoch": epoch, "metrics": values}, sort_keys=True) + "\n")

    def should_stop(self) -> bool:
        """Tell whether a signal, or the attempt's file `stop`, asked to save and stop."""
        return self._should_stop() or self._word.is_there()

    def latest_state(self) -> Path | None:
        """Return the newest intact resume file, or None."""
        return self._store.latest_state()

    def save_state(self, step: int, epoch: int, write: Callable[[Path], None]) -> None:
        """Keep a resume file and say so. Raises Stopped when a later attempt has taken the job over."""
        self._refuse_to_interfere()
        with self.writing:
            self._store.save_state(step, epoch, write)
            append_event(self._attempt.events, EventKind.CHECKPOINTED, step=step, epoch=epoch)

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, Callable[[Path], None]], info: Mapping[str, Any]) -> None:
        """Keep a finished checkpoint under a name. Raises Stopped when a later attempt has taken the job over."""
        self._refuse_to_interfere()
        with self.writing:
            self._store.keep(name, metrics, files, info)

    def keep_pictures(self, epoch: int, pictures: Mapping[str, bytes]) -> None:
        """Keep PNG files by name, beside those of other epochs. Raises Stopped when a later attempt has taken the job over."""
        self._refuse_to_interfere()
        with self.writing:
            keep_pictures(self._attempt.job.pictures, pictures, epoch)

    def close(self) -> None:
        """Close the metrics file."""
        self._metrics.close()

    def _refuse_to_interfere(self) -> None:
        if is_superseded(self._attempt):
            raise Stopped


class SilentHost:
    """The `trainers.api.Host` of a process that trains with others and is not the first of them: the first alone writes."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write nothing."""

    def should_stop(self) -> bool:
        """Tell whether a signal asked to save and stop; the loop asks all processes, and all stop when one was asked."""
        return self._should_stop()

    def latest_state(self) -> Path | None:
        """Return None: the first process says which resume file all of them take."""
        return None

    def save_state(self, step: int, epoch: int, write: Callable[[Path], None]) -> None:
        """Write nothing."""

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, Callable[[Path], None]], info: Mapping[str, Any]) -> None:
        """Write nothing."""

    def keep_pictures(self, epoch: int, pictures: Mapping[str, bytes]) -> None:
        """Write nothing."""
