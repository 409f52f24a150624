"""A tiny method and a host in a folder, for the tests of the loop; run as a program it is a job that can be killed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jobs.checkpoints import CheckpointStore
from jobs.pictures import keep_pictures
from jobs.signals import EXIT_STOPPED, watch_signals
from trainers.api import Outcome, Scores, Trainer
from trainers.data.access import Rows
from trainers.loop import fit, prepare

CPU = torch.device("cpu")
MONITOR = {"metric": "val/right", "mode": "max"}
IMAGES, PX, LABELS = 24, 8, ("a", "b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every key that the loop reads, small."""

    epochs: int = 3
    batch_size: int = 8
    precision: str = "fp32"
    lr: float = 0.05
    optimizer: str = "adamw"  # adamw | sgd
    norm: str = "batch"  # batch | layer
    dropout: float = 0.2
    grad_clip: float = 0.0
    save_every_epochs: int = 1
    save_every_examples: int = 0
    save_every_steps: int = 2
    log_every_steps: int = 1
    keep_best: int = 1
    micro_batch: int = 0
    bn_images: int = 0
    pictures_every_epochs: int = 0
    patience: int = 0
    stop_on: str = "val/right"


class LayerNorm2d(nn.Module):
    """LayerNorm over channels of (B, C, H, W): nothing in it depends on the other images of a batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def network(norm: str, dropout: float) -> nn.Sequential:
    """Return a convolutional net with two normalisations, a dropout and two outputs."""
    layer: Callable[[int], nn.Module] = nn.BatchNorm2d if norm == "batch" else LayerNorm2d
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        layer(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        layer(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8, len(LABELS)),
    )


def arrays(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 1, px, px) and targets (n, labels), a function of the seed."""
    draw = np.random.Generator(np.random.PCG64(seed))
    images = draw.normal(size=(IMAGES, 1, PX, PX)).astype(np.float32)
    targets = np.stack([images.mean((1, 2, 3)) > 0, images[:, 0, 0, 0] > 0], axis=1)
    return images, targets.astype(np.float32)


class Toy:
    """A `trainers.api.Trainer` with a momentum copy of its own, so that there is state besides weights and optimizer."""

    def __init__(self, config: Config, seed: int = 0) -> None:
        self.config, self.seed = config, seed
        self.images, self.targets = arrays(seed)
        torch.manual_seed(seed)
        net = network(config.norm, config.dropout)
        self.module: nn.Module = net
        self.head = net[-1]
        self.steps_per_epoch = IMAGES // config.batch_size
        self.slow = torch.zeros(len(LABELS))
        self.calls: list[str] = []

    def optimizer(self) -> torch.optim.Optimizer:
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(self.module.parameters(), lr=self.config.lr, momentum=0.9)
        return torch.optim.AdamW(self.module.parameters(), lr=self.config.lr, weight_decay=0.01)

    def learning_rate_factor(self, step: int) -> float:
        return 1.0 - step / (2 * self.config.epochs * self.steps_per_epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        order = np.random.Generator(np.random.PCG64((self.seed, epoch))).permutation(IMAGES)
        for index in range(start, self.steps_per_epoch):
            chosen = order[index * self.config.batch_size : (index + 1) * self.config.batch_size]
            noise = np.random.Generator(np.random.PCG64((self.seed, epoch, index))).normal(size=(len(chosen), 1, PX, PX))
            yield {"x": (self.images[chosen] + 0.1 * noise).astype(np.float32), "y": self.targets[chosen]}

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls.append(f"loss {len(batch['x'])}")
        logits = self.module(batch["x"]).float()
        loss = F.binary_cross_entropy_with_logits(logits, batch["y"])
        return {"loss": loss, "spread": logits.detach().std()}

    def after_step(self, step: int) -> None:
        assert isinstance(self.head, nn.Linear)
        self.slow = 0.9 * self.slow + 0.1 * self.head.bias.detach()

    def after_epoch(self, epoch: int) -> dict[str, float]:
        return {"train/slow": float(self.slow.sum())}

    def validate(self) -> Scores | None:
        return self.predict(rows())

    def predict(self, rows: Rows) -> Scores:
        self.module.eval()
        with torch.no_grad():
            logits = self.module(torch.from_numpy(self.images[rows.position]))
        return Scores(rows=rows, logits=logits.float().numpy(), labels=LABELS)

    def state_dict(self) -> dict[str, Any]:
        return {"slow": self.slow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.slow = state["slow"]


class Masked(Toy):
    """A loss that is a mean over the known labels, of which parts of a batch hold different numbers."""

    says_weight = True

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        known = batch["x"][:, 0, :1, :2].flatten(1) > 0.3
        logits = self.module(batch["x"]).float()
        terms = F.binary_cross_entropy_with_logits(logits, batch["y"], reduction="none") * known
        out = {"loss": terms.sum() / known.sum().clamp_min(1)}
        return out | {"weight": known.sum()} if self.says_weight else out


def rows(count: int = 6) -> Rows:
    """Return rows whose positions are the first images."""
    names = np.array([f"image{index}" for index in range(count)])
    return Rows(
        card="toy",
        images=names,
        patients=names,
        studies=names,
        views=np.array(["frontal"] * count),
        labels=arrays()[1][:count],
        label_names=LABELS,
        position=np.arange(count),
    )


def measure(scores: Scores) -> dict[str, float]:
    """Return the share of right signs."""
    return {"val/right": float(((scores.logits > 0) == (scores.rows.labels > 0)).mean())}


class FolderHost:
    """A `trainers.api.Host` over a folder, and what it was told."""

    def __init__(self, folder: Path, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.store = CheckpointStore(folder)
        self.should_stop = should_stop
        self.lines: list[tuple[int, int, dict[str, float]]] = []
        self.states: list[tuple[int, int]] = []

    def log(self, step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        self.lines.append((step, epoch, dict(metrics)))

    def latest_state(self) -> Path | None:
        return self.store.latest_state()

    def save_state(self, step: int, epoch: int, write: Callable[[Path], None]) -> None:
        self.states.append((step, epoch))
        self.store.save_state(step, epoch, write)

    def keep(self, name: str, metrics: Mapping[str, float], files: Mapping[str, Callable[[Path], None]], info: Mapping[str, Any]) -> None:
        self.store.keep(name, metrics, files, info)

    def keep_pictures(self, epoch: int, pictures: Mapping[str, bytes]) -> None:
        keep_pictures(self.store.folder.with_name("pictures"), pictures, epoch)

    def losses(self) -> list[str]:
        """Return the logged losses as exact hexadecimal numbers."""
        return [metrics["train/loss"].hex() for _, _, metrics in self.lines if "train/loss" in metrics]


def weights_digest(module: nn.Module) -> str:
    """Return a sha256 over every tensor of a module."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def run(
    folder: Path, config: Config, trainer: Trainer | None = None, host: FolderHost | None = None, **more: Any
) -> tuple[Outcome, FolderHost]:
    """Fit a toy in a folder and return the outcome and the host."""
    host, trainer = host or FolderHost(folder), trainer or Toy(config, 7)
    return fit(trainer, config, host, device=CPU, measure=measure, monitor=MONITOR, **more), host


def kept_digest(host: FolderHost) -> str:
    """Return the sha256 of the weights of the last kept checkpoint."""
    return host.store.kept()[-1]["files"]["safetensors"]["sha256"]


def main(folder: Path, config: Config, pace: float) -> int:
    """Train in a folder, telling each step on a line of `steps` before the next begins; `pace` seconds a step let a killer aim."""
    import time

    prepare(7, 1, CPU)
    trainer = Toy(config, seed=7)
    with watch_signals() as flag, (folder / "steps").open("a", encoding="utf-8", buffering=1) as steps:
        host = FolderHost(folder / "checkpoints", flag.is_set)
        log = host.log

        def tell(step: int, epoch: int, metrics: Mapping[str, float]) -> None:
            log(step, epoch, metrics)
            if "train/loss" in metrics:
                steps.write(json.dumps({"step": step, "loss": metrics["train/loss"].hex()}) + "\n")
                time.sleep(pace)

        host.log = tell  # type: ignore[method-assign]
        outcome = fit(trainer, config, host, device=CPU, measure=measure, monitor=MONITOR)
    if not outcome.finished:
        return EXIT_STOPPED
    (folder / "final").write_text(weights_digest(trainer.module), encoding="ascii")
    return 0


def run_and_exit(folder: Path, config: Config, pace: float) -> None:
    """Run `main` as the whole of a process."""
    sys.exit(main(folder, config, pace))


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    run_and_exit(Path(sys.argv[1]), Config(**json.loads(sys.argv[2])), float(sys.argv[3]))
