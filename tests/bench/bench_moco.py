"""Momentum contrast beside the same written out by hand in plain torch: pairs of views a second, CPU time of one thread, taken in turns.

Here is the method as a job runs it: through the loop, drawing its views. By hand the views are there already, and a step is no more than
the method: two encoders, keys in two shuffled halves, the momentum update, the queue, the loss, AdamW.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.bench_loop import Nowhere
from tests.bench.rows import Row
from tests.trainers.made_data import made_access
from trainers.api import Setup
from trainers.loop import fit, prepare
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config
from trainers.parts import backbones

CPU = torch.device("cpu")
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network, the batch and precision, and how many steps a run takes."""

    arch: str
    px: int = 64
    batch: int
    precision: Literal["fp32", "bf16"]
    steps: int


CASES = (
    Case(arch="slim", batch=64, precision="fp32", steps=6),
    Case(arch="slim", batch=64, precision="bf16", steps=6),
    Case(arch="resnet18", batch=16, precision="fp32", steps=5),
    Case(arch="resnet18", batch=16, precision="bf16", steps=5),
)


def config_of(case: Case) -> Config:
    """Return a config of few steps whose queue is two batches, so that filling it costs little."""
    return Config(
        arch=case.arch,
        px=case.px,
        epochs=1,
        batch_size=case.batch,
        queue_size=2 * case.batch,
        augment="cxr_plus",
        optimizer="adamw",
        lr=1e-3,
        momentum=0.99,
        collapse_guard=False,
        precision=case.precision,
    )


def by_method(case: Case) -> list[float]:
    """Return CPU seconds of each step of the method in the loop, its views included."""
    config, images = config_of(case), case.batch * case.steps
    data = made_access(n=images + 4, px=case.px, sizes=(images, 4))
    prepare(0, 1, CPU)
    method: Any = train.build(Setup(config=config, seed=0, data=data, device=CPU))
    times: list[float] = []
    batches = method.batches

    def timed(epoch: int, start: int = 0) -> Any:
        for batch in batches(epoch, start):
            yield batch
            times.append(time.process_time())

    method.batches = timed
    fit(method, config, Nowhere(), device=CPU)
    return intervals(times)


def by_hand(case: Case) -> list[float]:
    """Return CPU seconds of each step written out, on views that are there already."""
    config = config_of(case)
    prepare(0, 1, CPU)
    if case.arch == "slim":
        network = backbones.build("slim", 1, case.px, seed=0)
    else:
        network = timm.create_model(case.arch, in_chans=1, num_classes=0)
    width = network(torch.zeros(2, 1, case.px, case.px)).shape[1]
    query: nn.Module = nn.Sequential(network, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.dim))
    query = query.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    slow = copy.deepcopy(query).requires_grad_(False)
    optimizer = torch.optim.AdamW(query.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    queue = functional.normalize(torch.randn(config.queue_size, config.dim), dim=1)
    views = torch.randn(2, case.batch, 1, case.px, case.px)
    query.train()
    times: list[float] = []
    for step in range(case.steps):
        times.append(time.process_time())
        with torch.no_grad():
            for old, new in zip(slow.parameters(), query.parameters(), strict=True):
                old.lerp_(new, 1 - config.momentum)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.precision == "bf16"):
            found = directions(query, views[0])
            keys = shuffled_keys(slow, views[1])
        logits = torch.cat([(found * keys).sum(1, keepdim=True), found @ queue.T], dim=1) / config.temperature
        loss = functional.cross_entropy(logits, torch.zeros(case.batch, dtype=torch.long))
        loss.backward()
        optimizer.step()
        first = step * case.batch % config.queue_size
        queue[first : first + case.batch] = keys
        loss.item()
    times.append(time.process_time())
    return intervals(times)


def directions(encoder: nn.Module, views: Tensor) -> Tensor:
    """Return directions (B, C) of unit length, fp32."""
    return functional.normalize(encoder(views.to(memory_format=torch.channels_last)).float(), dim=1)


@torch.no_grad()
def shuffled_keys(encoder: nn.Module, views: Tensor) -> Tensor:
    """Return keys (B, C) in the order of the views, encoded in two shuffled halves."""
    order = torch.randperm(len(views))
    return torch.cat([directions(encoder, half) for half in views[order].chunk(2)])[order.argsort()]


def intervals(times: list[float]) -> list[float]:
    """Return the times between moments, without the first, which allocates."""
    return [after - before for before, after in pairwise(times)][1:]


def measure() -> list[Row]:
    """Return pairs a second of both, case by case (medians)."""
    rows: list[Row] = []
    for case in CASES:
        here: list[float] = []
        beside: list[float] = []
        for _ in range(ROUNDS):
            beside += by_hand(case)
            here += by_method(case)
        mine, hand = statistics.median(here), statistics.median(beside)
        rows.append(
            Row(
                what=f"{case.arch}, {case.px} px, batch {case.batch}, {case.precision}",
                ours=f"{case.batch / mine:,.0f} pairs a second",
                beside=f"{case.batch / hand:,.0f} pairs a second (by hand)",
                against=f"{mine / hand:.2f} of the time",
                note=f"{mine * 1e3:.0f} ms a step; median of {len(here)}",
            )
        )
    return rows
