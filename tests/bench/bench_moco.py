"""Momentum contrast beside the published loop, lightly's example and plain torch: pairs of views a second, CPU time of one thread.

Here is the method as a job runs it: through the loop, drawing its views. Published is the loop of MoCo-CXR, written from its description:
files through PIL and torchvision, three channels, fp32, NCHW, the whole queue copied, Adam. lightly is its MoCo example, written with its
modules, SGD, its views drawn as the published ones are. Each has a process of its own, in turns; MoCo-CXR's own size, 16 pairs of 320 px
and 24,576 keys. With the same precision and format they are given bfloat16 and channels_last. The aim of 2.4 is for CPUs that have
bfloat16. By hand, on smaller images, the views are there too, and a step is no more than the method: two encoders, keys in two shuffled
halves, the momentum update, the queue, the loss, AdamW. Watching is timed in the loop. Last, what BatchNorm gives away: the share of
queries that find their key by an encoder that sees no image (tests/trainers/leak.py), 16 images a batch.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.bench_loader import QUICKSTART
from tests.bench.bench_loop import Nowhere
from tests.bench.moco_beside import BATCH, PX, write_files
from tests.bench.rows import Row
from tests.trainers.leak import config_of as blind_config
from tests.trainers.leak import found
from tests.trainers.made_data import made_access
from trainers.api import Setup
from trainers.loop import fit, prepare
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config
from trainers.parts import backbones

CPU = torch.device("cpu")
ROUNDS = 3
HERE = Path(__file__).parent
#: Each in a process of its own, in turns.
CONTESTANTS = ("ours bf16", "published fp32", "lightly fp32", "ours fp32", "published bf16", "lightly bf16", "ours-grey bf16")
TURNS = 2
#: An epoch that is watched follows some that are not, as many as a study of quickstart's size would have.
WATCHED_EPOCHS = 4


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


@contextmanager
def lightly_installed() -> Iterator[str]:
    """Install lightly alone, without what it depends on and its modules for MoCo do not, in a folder that is then gone."""
    with tempfile.TemporaryDirectory(prefix="lightly-") as folder:
        install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--target", folder]
        subprocess.run([sys.executable, *install, "-r", str(HERE / "lightly.txt")], check=True)
        yield folder


def contest() -> dict[str, list[float]]:
    """Return CPU seconds of each step of every contestant. Raises RuntimeError with what one said when it failed."""
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with lightly_installed() as path, tempfile.TemporaryDirectory(prefix="moco-") as files:
        write_files(Path(files))
        for _ in range(TURNS):
            for name in CONTESTANTS:
                command = [sys.executable, "-m", "tests.bench.moco_beside", name, files]
                done = subprocess.run(
                    command, cwd=HERE.parents[1], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
                )
                if done.returncode != 0:
                    raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
                times[name] += json.loads(done.stdout.splitlines()[-1])
    return times


def contest_rows(times: Mapping[str, list[float]], *, native: bool) -> list[Row]:
    """Return who took how many steps (medians), against ours."""
    middle = {name: statistics.median(steps) for name, steps in times.items()}
    rows: list[Row] = []
    for what, mine, theirs, aim in (
        ("as published", "ours bf16", "published fp32", 2.4),
        ("as published", "ours bf16", "lightly fp32", 2.4),
        ("same precision and format", "ours bf16", "published bf16", 1.1),
        ("same precision and format", "ours bf16", "lightly bf16", 1.1),
        ("fp32, as published else", "ours fp32", "published fp32", 0.0),
        ("fp32, as published else", "ours fp32", "lightly fp32", 0.0),
        ("one channel against three", "ours-grey bf16", "ours bf16", 0.0),
    ):
        aimed = f"; aim {aim:g}" if aim and (native or aim < 2) else "; no aim, this CPU has no bfloat16" if aim else ""
        rows.append(
            Row(
                what=f"resnet18, {PX} px, batch {BATCH}, {what}",
                ours=f"{BATCH / middle[mine]:.1f} pairs a second ({mine})",
                beside=f"{BATCH / middle[theirs]:.1f} pairs a second ({theirs})",
                against=f"{middle[theirs] / middle[mine]:.2f} times the step rate{aimed}",
                note=f"{middle[mine]:.2f} s a step; median of {len(times[mine])} and {len(times[theirs])}",
            )
        )
    return rows


def has_bfloat16(listing: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor multiplies bfloat16 itself."""
    text = listing.read_text(encoding="utf-8") if listing.exists() else ""
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16"))


def watching() -> Row:
    """Return which share of quickstart's pretraining is spent on watching 500 images every fourth epoch."""
    config = Config(**QUICKSTART, epochs=WATCHED_EPOCHS, watch_every_epochs=WATCHED_EPOCHS)
    prepare(0, 1, CPU)
    data = made_access(n=2400, px=config.px, sizes=(2000, 300))
    method: Any = train.build(Setup(config=config, seed=0, data=data, device=CPU))
    watched, spent = method._watched, 0.0

    def timed(done: int) -> dict[str, float]:
        nonlocal spent
        start = time.process_time()
        seen = watched(done)
        spent += time.process_time() - start
        return seen

    method._watched = timed
    start = time.process_time()
    fit(method, config, Nowhere(), device=CPU)
    whole = time.process_time() - start
    return Row(
        what=f"watching 500 images once in {WATCHED_EPOCHS} epochs of 2,000, slim, 64 px",
        ours=f"{spent:.2f} s",
        against=f"{100 * spent / whole:.1f} % of the time; aim 2 %",
        note=f"2 labels; {whole:.1f} s in all",
    )


def leaks() -> list[Row]:
    """Return which share of queries finds its key by the statistics of BatchNorm alone, for each way of shuffling."""
    ways: tuple[tuple[str, dict[str, object]], ...] = (
        ("one group (one GPU as published)", {"key_bn_groups": 1}),
        ("within, 2 sub-batches (the default)", {"key_bn_groups": 2}),
        ("within, 8 sub-batches", {"key_bn_groups": 8}),
        ("across, 2 groups of 8 (two GPUs as published)", {"bn_images": 8, "key_bn_groups": 1, "shuffle": "across"}),
        ("across, 4 groups of 4 (four GPUs as published)", {"bn_images": 4, "key_bn_groups": 1, "shuffle": "across"}),
        ("apart, 4 groups of 4", {"bn_images": 4, "key_bn_groups": 1, "shuffle": "apart"}),
    )
    return [
        Row(what=f"BatchNorm gives away, {what}", ours=f"{100 * found(blind_config(**changes)):.1f} % of keys", against="1.5 % by chance")
        for what, changes in ways
    ]


def by_hand_rows() -> list[Row]:
    """Return pairs a second of the method and of the same by hand, case by case (medians)."""
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


def measure() -> list[Row]:
    """Return all of it."""
    return [*contest_rows(contest(), native=has_bfloat16()), *by_hand_rows(), watching(), *leaks()]
