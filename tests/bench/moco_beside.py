"""One contestant of the bench `moco` in a process of its own: `python -m tests.bench.moco_beside NAME FOLDER`.

Prints the CPU seconds of each step as JSON. Of its own, because ours sets the allocator of the whole process, which the others do not. All
have ResNet-18 of torchvision's shape with three channels, batches of 16 pairs at 320 px, a queue of 24,576 keys, and one thread.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tests.bench.bench_gpu import many
from tests.bench.bench_loader import Published
from tests.bench.bench_loop import Nowhere
from tests.trainers.made_data import made_images, made_rows
from trainers.api import Setup
from trainers.loop import fit, prepare
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config

PX, BATCH, QUEUE, DIM, MOMENTUM, TEMPERATURE = 320, 16, 24576, 128, 0.999, 0.2
STEPS = 3
CPU = torch.device("cpu")


class Enough(Nowhere):
    """A host that asks to stop after so many steps."""

    def __init__(self) -> None:
        self.asked = 0

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked > STEPS


def ours(precision: Any, channels: Any = 3) -> list[float]:
    """Take steps as a job does: through the loop, its views drawn from decoded images."""
    config = Config(
        arch="resnet18",
        channels=channels,
        px=PX,
        epochs=1,
        batch_size=BATCH,
        queue_size=QUEUE,
        queue_init="random",
        augment="cxr_paper",
        collapse_guard=False,
        precision=precision,
    )
    prepare(0, 1, CPU)
    method: Any = train.build(Setup(config=config, seed=0, data=many(PX), device=CPU))
    moments: list[float] = []
    batches = method.batches

    def timed(epoch: int, start: int = 0) -> Iterator[Any]:
        # A batch is asked for when the step before it is over: its views are drawn between two moments.
        made = batches(epoch, start)
        while True:
            moments.append(time.process_time())
            yield next(made)

    method.batches = timed
    fit(method, config, Enough(), device=CPU)
    return intervals([*moments, time.process_time()][: STEPS + 1])


def mixed(precision: str) -> torch.autocast:
    """Return the context that a forward pass of a precision runs in."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16")


def laid_out(module: nn.Module, precision: str) -> nn.Module:
    """Give a network the memory format that goes with a precision here: NCHW with fp32, as published, else channels_last."""
    return module.to(memory_format=torch.channels_last) if precision == "bf16" else module  # pyright: ignore[reportCallIssue]


def published(precision: str, folder: Path) -> list[float]:
    """Take steps of the published loop, written from its description: files through PIL and torchvision, Adam, and what it logs."""
    torch.manual_seed(0)
    query: nn.Module = torchvision.models.resnet18(num_classes=DIM)
    query.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), query.fc)  # type: ignore[assignment, arg-type]
    query = laid_out(query, precision)
    slow = copy.deepcopy(query).requires_grad_(False)
    optimizer = torch.optim.Adam(query.parameters(), 1e-4, weight_decay=1e-4)
    queue = functional.normalize(torch.randn(DIM, QUEUE), dim=0)
    target = torch.zeros(BATCH, dtype=torch.long)
    pairs = iter(DataLoader(Published(files_in(folder), PX), BATCH, shuffle=True, drop_last=True))
    place = 0

    def step() -> None:
        nonlocal place
        views, others = (laid(part, precision) for part in next(pairs))
        with mixed(precision):
            found = functional.normalize(query(views), dim=1)
            with torch.no_grad():
                for old, new in zip(slow.parameters(), query.parameters(), strict=True):
                    old.data = old.data * MOMENTUM + new.data * (1 - MOMENTUM)
                order = torch.randperm(BATCH)
                keys = functional.normalize(slow(others[order]), dim=1)[order.argsort()]
            logits = torch.cat([torch.einsum("nc,nc->n", found, keys)[:, None], torch.einsum("nc,ck->nk", found, queue.clone())], 1)
            logits = logits / TEMPERATURE
            queue[:, place : place + BATCH] = keys.T
            place = (place + BATCH) % QUEUE
            loss = functional.cross_entropy(logits, target)
        hits = logits.topk(5, 1)[1].eq(0)
        [float(value) for value in (loss.item(), hits[:, 0].float().mean(), hits.float().sum(1).mean())]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    query.train()
    return timed_steps(step)


def lightly(precision: str, folder: Path) -> list[float]:
    """Take steps of lightly's MoCo example, written with its modules; its views come from files, as its example's do."""
    from lightly.loss import NTXentLoss  # pyright: ignore[reportMissingImports]
    from lightly.models.modules import MoCoProjectionHead  # pyright: ignore[reportMissingImports]
    from lightly.models.utils import deactivate_requires_grad, update_momentum  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    body: nn.Module = laid_out(nn.Sequential(*list(torchvision.models.resnet18().children())[:-1]), precision)
    head = MoCoProjectionHead(512, 512, DIM)
    slow_body, slow_head = copy.deepcopy(body), copy.deepcopy(head)
    for part in (slow_body, slow_head):
        deactivate_requires_grad(part)
    criterion = NTXentLoss(temperature=TEMPERATURE, memory_bank_size=(QUEUE, DIM))
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.06)
    pairs = iter(DataLoader(Published(files_in(folder), PX), BATCH, shuffle=True, drop_last=True))

    def step() -> None:
        views, others = (laid(part, precision) for part in next(pairs))
        update_momentum(body, slow_body, m=MOMENTUM)
        update_momentum(head, slow_head, m=MOMENTUM)
        with mixed(precision):
            query = head(body(views).flatten(start_dim=1))
            key = slow_head(slow_body(others).flatten(start_dim=1)).detach()
            loss = criterion(query, key)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.detach().item()

    return timed_steps(step)


def laid(views: Tensor, precision: str) -> Tensor:
    """Return views in the memory format that goes with a precision here."""
    return views.contiguous(memory_format=torch.channels_last) if precision == "bf16" else views


def timed_steps(step: Callable[[], None]) -> list[float]:
    """Return the CPU seconds of steps."""
    torch.set_num_threads(1)
    moments = [time.process_time()]
    for _ in range(STEPS):
        step()
        moments.append(time.process_time())
    return intervals(moments)


def intervals(moments: list[float]) -> list[float]:
    """Return the times between moments, without the first, which allocates."""
    return [after - before for before, after in pairwise(moments)][1:]


def write_files(folder: Path) -> None:
    """Write the files that the published loop opens: made radiographs of a release's shape."""
    for number, image in enumerate(made_images(made_rows(BATCH * (STEPS + 1)), PX)):
        wide = cv2.resize(cv2.GaussianBlur(image, (0, 0), 2), (390, PX))
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), np.ascontiguousarray(wide), [cv2.IMWRITE_JPEG_QUALITY, 90])


def files_in(folder: Path) -> list[Path]:
    """Return the files in their order."""
    return sorted(folder.glob("*.jpg"))


def run(name: str, folder: Path) -> list[float]:
    """Run a contestant by name, `<who> <precision>`."""
    who, precision = name.split()
    if who == "ours":
        return ours(precision)
    if who == "ours-grey":
        return ours(precision, channels=1)
    return published(precision, folder) if who == "published" else lightly(precision, folder)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], Path(sys.argv[2]))))
