"""The loop beside the same steps written out by hand: CPU seconds a step, one thread, runs taken in turns.

`resnet18` is a step of the smallest network that anybody trains here (16 images of 64 pixels); `tiny` is two convolutions, where what the
loop itself adds can be seen. Last, what a checkpoint of ResNet-18 with AdamW costs on the temporary disk.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.bench.rows import Row
from trainers.loop import fit, prepare

CPU = torch.device("cpu")
ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network, its input, and how many steps a run takes."""

    network: str
    shape: tuple[int, ...]
    precision: str
    steps: int


CASES = (
    Case(network="resnet18", shape=(16, 3, 64, 64), precision="fp32", steps=8),
    Case(network="resnet18", shape=(16, 3, 64, 64), precision="bf16", steps=8),
    Case(network="tiny", shape=(4, 3, 16, 16), precision="fp32", steps=300),
)


class Steps:
    """A method without data work, that notes the CPU time whenever a batch is asked for."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.module: nn.Module = (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
            if case.network == "tiny"
            else timm.create_model(case.network, num_classes=5)
        )
        self.steps_per_epoch = case.steps
        self.batch = {"x": torch.randn(case.shape), "y": torch.randint(0, 2, (case.shape[0], 5)).float()}
        self.times: list[float] = []

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.module.parameters(), lr=1e-3)

    def learning_rate_factor(self, step: int) -> float:
        return 1.0 / (1 + step)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        for _ in range(start, self.steps_per_epoch):
            self.times.append(time.process_time())
            yield self.batch

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": F.binary_cross_entropy_with_logits(self.module(batch["x"]).float(), batch["y"])}

    def after_step(self, step: int) -> None: ...

    def after_epoch(self, epoch: int) -> dict[str, float]:
        return {}

    def validate(self) -> None:
        return None

    def predict(self, rows: Any) -> Any:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Nowhere:
    """A host that keeps nothing."""

    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def should_stop(self) -> bool:
        return False

    def latest_state(self) -> Path | None:
        return None

    def save_state(self, step: int, epoch: int, write: Any) -> None: ...

    def keep_pictures(self, epoch: int, pictures: Mapping[str, Any]) -> None: ...

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, Any], info: Mapping[str, Any]) -> None: ...


def by_loop(case: Case) -> list[float]:
    """Return the CPU seconds of each step that the loop takes."""
    method = Steps(case)
    fit(method, {"epochs": 1, "precision": case.precision}, Nowhere(), device=CPU)
    return intervals(method)


def by_hand(case: Case) -> list[float]:
    """Return the CPU seconds of each step of a plain loop: the least that trains, reads its loss and follows a schedule."""
    method = Steps(case)
    model = method.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = method.optimizer()
    model.train()
    for step, batch in enumerate(method.batches(0)):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * method.learning_rate_factor(step)
        optimizer.zero_grad(set_to_none=True)
        images = batch["x"].to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case.precision == "bf16"):
            loss = method.loss({"x": images, "y": batch["y"]})["loss"]
        loss.backward()
        optimizer.step()
        loss.item()
    return intervals(method)


def intervals(method: Steps) -> list[float]:
    """Return the times between batches, without the first step, which allocates."""
    return [after - before for before, after in zip(method.times[1:-1], method.times[2:], strict=True)]


def measure() -> list[Row]:
    """Return what a step costs by both, case by case (medians), and what checkpoints cost."""
    prepare(0, 1, CPU)
    rows: list[Row] = []
    for case in CASES:
        ours: list[float] = []
        plain: list[float] = []
        for _ in range(ROUNDS):
            plain += by_hand(case)
            ours += by_loop(case)
        loop, hand = statistics.median(ours), statistics.median(plain)
        rows.append(
            Row(
                what=f"a step of {case.network}, {case.precision}",
                ours=f"{loop * 1e3:.2f} ms",
                beside=f"{hand * 1e3:.2f} ms (by hand)",
                against=f"{loop / hand:.3f} of it",
                note=f"{case.shape[0]} images of {case.shape[-1]} px; {(loop - hand) * 1e6:+.0f} us",
            )
        )
    return rows + cost_of_checkpoints()


def cost_of_checkpoints() -> list[Row]:
    """Return milliseconds of one resume file and of one kept checkpoint of a ResNet-18 with AdamW, on this machine's temporary disk."""
    from jobs.checkpoints import CheckpointStore
    from trainers.states import write_weights

    method = Steps(Case(network="resnet18", shape=(2, 3, 64, 64), precision="fp32", steps=1))
    optimizer = method.optimizer()
    method.loss(method.batch)["loss"].backward()
    optimizer.step()
    state = {"module": method.module.state_dict(), "optimizer": optimizer.state_dict()}
    with TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        start = time.perf_counter()
        store.save_state(1, 0, lambda path: torch.save(state, path))
        saved = time.perf_counter()
        store.keep("epoch-0001", {}, {"safetensors": lambda path: write_weights(method.module, path)}, {"step": 1, "epoch": 1})
        kept = time.perf_counter()
        size = sum(path.stat().st_size for path in Path(folder).glob("*.pt"))
    return [
        Row(what="a resume file", ours=f"{(saved - start) * 1e3:.0f} ms", note=f"{size / 2**20:.0f} MiB, fsynced and renamed"),
        Row(what="a kept checkpoint", ours=f"{(kept - saved) * 1e3:.0f} ms", note="weights alone, fsynced and renamed"),
    ]
