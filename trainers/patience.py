"""Early stopping: how long a run goes on while validation gets no better."""

from __future__ import annotations

import math
from collections.abc import Mapping

from trainers.api import Trainer
from trainers.errors import Error
from trainers.processes import Processes
from trainers.settings import Settings
from trainers.states import Progress


def told(trainer: Trainer, measured: Mapping[str, float], progress: Progress, settings: Settings, processes: Processes) -> dict[str, float]:
    """Tell a method that asks (`validated`) what validation measured, and count the wait; return what is logged of it.

    All processes go by what the first one measured, or they would part ways.
    """
    hears, found = hasattr(trainer, "validated"), dict(measured)
    if not hears and not settings.patience:
        return found
    seen = processes.of_first(found)
    if hears:
        trainer.validated(seen)  # pyright: ignore[reportAttributeAccessIssue]
    if settings.patience:
        heed(progress, seen, settings)
        found["epoch/waited"] = float(progress.waited)
    return found


def heed(progress: Progress, metrics: Mapping[str, float], settings: Settings) -> None:
    """Count one look at validation: the wait starts again where `stop_on` is better than it ever was, strictly.

    Less is better of a metric with `loss` in its name, more of any other; a value that is no number is no better. Raises Error when
    validation did not write the metric.
    """
    if settings.stop_on not in metrics:
        known = ", ".join(sorted(name for name in metrics if name.startswith("val/"))) or "none"
        raise Error(
            f"config.stop_on: validation wrote no '{settings.stop_on}', set one that it writes (there are: {known}), or patience: 0"
        )
    value = metrics[settings.stop_on]
    best = progress.best
    better = best is None or (value < best if "loss" in settings.stop_on else value > best)
    if better and math.isfinite(value):
        progress.best, progress.waited = value, 0
    else:
        progress.waited += 1


def is_over(progress: Progress, settings: Settings) -> bool:
    """Tell whether a run ends: after all epochs, or after `patience` + 1 looks in a row that were no better.

    So many because BenchmarkTransformers' `engine.py` counts first and compares with `>`.
    """
    return progress.epoch >= settings.epochs or 0 < settings.patience < progress.waited
