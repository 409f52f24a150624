"""Momentum contrast on a GPU: pairs of views a second, wall time, beside the published loop on the same card, taken in turns.

Here is the method as a job runs it (bfloat16, channels_last, the next batch drawn while this one is worked on). `ready` gives it the same
batch again and again, so that the difference is what it waits for data. Published is the step of MoCo-CXR's code: fp32, NCHW, three
channels, Adam, the whole queue in every product, its views ready too. The share of the peak is of the card's dense bfloat16 rate, as an
8192 x 8192 product reached it in this run. The note says how many threads drew the views.
"""

from __future__ import annotations

import copy
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.bench_loop import Nowhere
from tests.bench.rows import Row
from tests.trainers.made_data import LABELS, MemoryStore, made_images, made_rows
from trainers.api import Setup
from trainers.data.access import Access
from trainers.loop import fit, prepare
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config

GPU = torch.device("cuda")
ROUNDS, STEPS, WARM = 3, 24, 8
QUEUE = 24576
#: Threads that draw views, as `resources.cpus` of a job.
CPUS = max(1, (os.cpu_count() or 1) - 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network, the side of a view and the batch."""

    arch: str
    px: int
    batch: int


CASES = (
    Case(arch="resnet18", px=320, batch=16),
    Case(arch="resnet18", px=320, batch=256),
    Case(arch="resnet50", px=224, batch=256),
)


class Enough(Nowhere):
    """A host that asks to stop after so many steps."""

    def __init__(self) -> None:
        self.asked = 0

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked > STEPS


class Again(MemoryStore):
    """A few images under many positions."""

    def image(self, position: int) -> np.ndarray:
        return self.images[position % len(self.images)]


def many(px: int) -> Access:
    """Open a made card with as many training images as the queue has keys."""
    rows = made_rows(QUEUE)
    images = made_images(rows.take(np.arange(256)), px)
    return Access(
        card="made",
        label_names=LABELS,
        rows_of=lambda split: rows if split == "train" else None,
        store=lambda size: Again(images, [(px, px)] * len(images)),
        is_open=lambda split: True,
    )


def by_method(case: Case, *, ready: bool) -> list[float]:
    """Return the wall seconds of each step of the method in the loop; `ready` repeats one batch instead of drawing the next."""
    config = Config(
        arch=case.arch,
        px=case.px,
        epochs=1,
        batch_size=case.batch,
        queue_size=QUEUE,
        queue_init="random",
        augment="cxr_plus",
        optimizer="adamw",
        collapse_guard=False,
        precision="bf16",
    )
    prepare(0, CPUS, GPU)
    method: Any = train.build(Setup(config=config, seed=0, data=many(case.px), device=GPU))
    made: Callable[..., Iterator[Any]] = method.batches
    if ready:
        one = {name: value.to(GPU) if name != "index" else value for name, value in next(made(0)).items()}
        method.batches = lambda epoch, start=0: itertools.repeat(one)
    times: list[float] = []
    after = method.after_step

    def timed(step: int) -> None:
        after(step)
        torch.cuda.synchronize()
        times.append(time.perf_counter())

    method.after_step = timed
    fit(method, config, Enough(), device=GPU, prefetch=True)
    return intervals(times)


def published(case: Case) -> tuple[Callable[[], None], nn.Module]:
    """Return a step of the published loop on views that are on the card, and its query encoder."""
    prepare(0, 1, GPU)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
    torch.use_deterministic_algorithms(False)
    network = timm.create_model(case.arch, num_classes=0).to(GPU)
    width = network(torch.zeros(2, 3, case.px, case.px, device=GPU)).shape[1]
    query: nn.Module = nn.Sequential(network, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128)).to(GPU)
    slow = copy.deepcopy(query).requires_grad_(False)
    optimizer = torch.optim.Adam(query.parameters(), lr=1e-4, weight_decay=1e-4)
    queue = functional.normalize(torch.randn(128, QUEUE, device=GPU), dim=0)
    views = torch.randn(2, case.batch, 3, case.px, case.px, device=GPU)
    target = torch.zeros(case.batch, dtype=torch.long, device=GPU)
    place = [0]

    def step() -> None:
        found = functional.normalize(query(views[0]), dim=1)
        with torch.no_grad():
            for old, new in zip(slow.parameters(), query.parameters(), strict=True):
                old.data = old.data * 0.999 + new.data * 0.001
            order = torch.randperm(case.batch, device=GPU)
            keys = functional.normalize(slow(views[1][order]), dim=1)[order.argsort()]
        logits = torch.cat([(found * keys).sum(1, keepdim=True), found @ queue.clone()], dim=1) / 0.2
        loss = functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        queue[:, place[0] : place[0] + case.batch] = keys.T
        place[0] = (place[0] + case.batch) % QUEUE
        loss.item()

    return step, query


def by_published(case: Case) -> list[float]:
    """Return the wall seconds of each published step."""
    step, _ = published(case)
    times: list[float] = []
    for _ in range(STEPS):
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter())
    return intervals(times)


def flops_of(case: Case) -> float:
    """Return the floating-point operations of one step: two encodings, and the gradients of one."""
    step, _ = published(case)
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def peak() -> float:
    """Return the operations a second of a large bfloat16 product (median of ten)."""
    a, b = (torch.randn(8192, 8192, device=GPU, dtype=torch.bfloat16) for _ in range(2))
    times: list[float] = []
    for _ in range(13):
        torch.cuda.synchronize()
        start = time.perf_counter()
        _result: Tensor = a @ b
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * 8192**3 / statistics.median(times[3:])


def intervals(times: list[float]) -> list[float]:
    """Return the times between moments, without the first ones, which choose algorithms and allocate."""
    return [after - before for before, after in pairwise(times)][WARM:]


def measure() -> list[Row]:
    """Return pairs a second of both, case by case (medians). Raises RuntimeError without a GPU."""
    if not torch.cuda.is_available():
        raise RuntimeError("this bench needs a CUDA GPU: run it where there is one, `python -m tests.bench gpu`")
    most = peak()
    rows = [Row(what="the card", ours=torch.cuda.get_device_name(), note=f"{most / 1e12:.0f} TFLOP/s in bfloat16 products")]
    for case in CASES:
        here: list[float] = []
        ready: list[float] = []
        beside: list[float] = []
        for _ in range(ROUNDS):
            beside += by_published(case)
            ready += by_method(case, ready=True)
            here += by_method(case, ready=False)
        mine, fed, theirs = (statistics.median(times) for times in (here, ready, beside))
        used, idle = flops_of(case) / fed / most, max(0.0, 1 - fed / mine)
        drew = "1 thread drew" if CPUS == 1 else f"{CPUS} threads drew"
        rows.append(
            Row(
                what=f"{case.arch}, {case.px} px, batch {case.batch}",
                ours=f"{case.batch / mine:,.0f} pairs a second; {case.batch / fed:,.0f} with views ready",
                beside=f"{case.batch / theirs:,.0f} pairs a second (published, views ready)",
                against=f"{theirs / fed:.1f} times the step rate; {theirs / mine:.1f} with views drawn; aim 3",
                note=f"{fed * 1e3:.1f} ms a step, {100 * used:.0f} % of the peak; {drew}, waits for data {100 * idle:.0f} %",
            )
        )
    return rows
