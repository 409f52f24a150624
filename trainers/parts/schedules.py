"""Learning-rate and momentum schedules as pure functions of a step or an epoch; each returns what the base value is multiplied by."""

from __future__ import annotations

import math
from collections.abc import Sequence


def warmup(step: int, steps: int) -> float:
    """Rise linearly to 1 over the first `steps` steps; step 0 already moves."""
    return min(1.0, (step + 1) / steps) if steps > 0 else 1.0


def cosine(step: int, total: int, *, warmup_steps: int = 0, rate: float = 1.0) -> float:
    """Fall from 1 to 0 along half a cosine after a linear warm-up; `rate` 4 covers only a quarter of it (MoCo-CXR's `--cos-rate`)."""
    if step < warmup_steps:
        return warmup(step, warmup_steps)
    done = (step - warmup_steps) / max(1, total - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done) / rate))


def by_epoch(time: float, epochs: int, *, lr: float, warmup_epochs: int = 0, warmup_lr: float = 1e-6, min_lr: float = 0.0) -> float:
    """Return timm's cosine at a time in epochs, as a factor of `lr`: a linear rise, then half a cosine.

    The rise starts at `warmup_lr` and stands there at time 0. The cosine counts from time 0, not from the end of the rise, and stays at
    `min_lr` from `epochs` on (timm 0.5.4, `CosineLRScheduler` with `warmup_prefix` off and one cycle).
    BenchmarkTransformers hands it the validation loss in place of the epoch.
    """
    if time < warmup_epochs:
        return (warmup_lr + time * (lr - warmup_lr) / warmup_epochs) / lr
    if time >= epochs:
        return min_lr / lr
    return (min_lr + 0.5 * (lr - min_lr) * (1.0 + math.cos(math.pi * time / epochs))) / lr


def milestones(epoch: int, at: Sequence[int], *, factor: float = 0.1) -> float:
    """Multiply by `factor` at every milestone that `epoch`, counted from 0, has reached."""
    return factor ** sum(epoch >= milestone for milestone in at)


def rising_momentum(step: int, total: int, start: float, end: float) -> float:
    """Raise a momentum from `start` to `end` along half a cosine (BYOL, section 3.3); constant when they are equal."""
    return end - (end - start) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / max(1, total))))
