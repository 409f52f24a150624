"""Fine-tuning as a job does it, in a process of its own: `python -m tests.bench.benchmark_beside ARCH BATCH STEPS PRECISION`.

Prints the wall seconds of each step as JSON. Of its own, because the loop sets the allocator and the threads of the whole process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch

from tests.bench.bench_loop import Nowhere
from tests.trainers.made_data import made_access
from trainers.api import Setup
from trainers.classification import train
from trainers.classification.config import Config
from trainers.loop import fit, prepare

PX, PNG_PX = 224, 1024
#: Steps of an epoch that are left out: the first allocates, and workers start.
WARM = 2
CPU = torch.device("cpu")


def config_of(arch: str, batch: int, precision: Any) -> Config:
    """Return what timm's script does by default: three channels, SGD, crops and flips."""
    rates = {"optimizer": "sgd", "lr": 0.05, "weight_decay": 2e-5}
    return Config(arch=arch, channels=3, px=PX, epochs=1, batch_size=batch, augment="benchmark", precision=precision, **rates)


def steps(arch: str, batch: int, number: int, precision: str) -> list[float]:
    """Return the wall seconds from one batch to the next, without the first."""
    prepare(0, os.cpu_count() or 1, CPU)
    images = batch * number
    data = made_access(n=images + 4, px=PX, sizes=(images, 4), val=False)
    method: Any = train.build(Setup(config=config_of(arch, batch, precision), seed=0, data=data, labels=("signal", "noise"), device=CPU))
    moments: list[float] = []
    recipes = method.recipes

    def timed(epoch: int, start: int = 0) -> Iterator[Any]:
        for recipe in recipes(epoch, start):
            moments.append(time.perf_counter())
            yield recipe

    method.recipes = timed
    fit(method, method.config, Nowhere(), device=CPU)
    return [after - before for before, after in pairwise([*moments, time.perf_counter()])][WARM:]


if __name__ == "__main__":
    arch, batch, number, precision = sys.argv[1:]
    print(json.dumps(steps(arch, int(batch), int(number), precision)))
