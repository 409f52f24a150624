"""The learning rate that UniChest's released scheduler makes, which is not the one that it logs."""

from __future__ import annotations

import math

#: Iterations between two looks of the warm-up, and how many there are.
_EVERY, _LOOKS = 100, 20


def released(step: int, steps_per_epoch: int, epochs: int, *, lr: float, min_lr: float) -> float:
    """Return the rate at a step as a factor of `lr`.

    In the first epoch it rises from `min_lr` at every 100th iteration, to `lr` at the 2,000th; then it is half a cosine by epoch, counted
    from the first (UniChest, `engine/train.py` and `scheduler/cosine_lr.py` with `warmup_prefix`).
    """
    epoch, iteration = divmod(step, steps_per_epoch)
    if epoch == 0:
        return (min_lr + min(iteration // _EVERY, _LOOKS) * (lr - min_lr) / _LOOKS) / lr
    return (min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * epoch / epochs))) / lr
