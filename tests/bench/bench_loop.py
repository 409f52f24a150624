"""The loop beside the same steps written out by hand: CPU seconds a step, one thread, runs taken in turns.

    python tests/bench/bench_loop.py

`resnet18` is a step of the smallest network that anybody trains here (16 images of 64 pixels); `tiny` is two convolutions, where what the
loop itself does can be seen.
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
    Case(network="resnet18", shape=(16, 3, 64, 64), precision="fp32", steps=12),
    Case(network="resnet18", shape=(16, 3, 64, 64), precision="bf16", steps=12),
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


def measure() -> dict[str, dict[str, float]]:
    """Return, by case, milliseconds a step of both, their ratio, and what the loop adds in microseconds (medians)."""
    prepare(0, 1, CPU)
    found: dict[str, dict[str, float]] = {}
    for case in CASES:
        ours: list[float] = []
        plain: list[float] = []
        for _ in range(ROUNDS):
            plain += by_hand(case)
            ours += by_loop(case)
        loop, hand = statistics.median(ours), statistics.median(plain)
        found[f"{case.network} {case.precision}"] = {
            "loop_ms": loop * 1e3,
            "hand_ms": hand * 1e3,
            "ratio": loop / hand,
            "added_us": (loop - hand) * 1e6,
        }
    return found


def cost_of_checkpoints() -> dict[str, float]:
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
    return {"state_ms": (saved - start) * 1e3, "state_mb": size / 2**20, "keep_ms": (kept - saved) * 1e3}


def main() -> None:
    """Print what was measured."""
    for name, numbers in {**measure(), "checkpoints of resnet18": cost_of_checkpoints()}.items():
        print(f"{name:24}", "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
