"""How long a sweep of 100,000 points takes to be expanded, validated and hashed: two config axes and draws at ten fractions, one core."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field

from jobs.catalog import Declaration
from orchestrator.expand import expand
from orchestrator.expansion.references import DataRef, WeightsRef
from orchestrator.model import Axis, AxisKind, Draws, Phase, Sweep
from tests.bench.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A config of usual size."""

    arch: str = "resnet18"
    init: str = "random"
    px: int = 224
    channels: int = 1
    epochs: int = 50
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    drop_path: float = 0.0
    warmup: float = 0.05
    schedule: str = "cosine"
    augment: str = "cxr_plus"
    normalization: str = "cxr"
    labels: tuple[str, ...] = ()
    penalties: tuple[float, ...] = field(default=(0.1, 1.0, 10.0))
    grad_clip: float = 0.0
    precision: str = "fp32"
    save_every_epochs: int = 1
    keep_best: int = 1


class Digests:
    """A resolver that needs no data."""

    made_data = False

    def data(self, name: str) -> DataRef:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return DataRef(identity={"card": name, "card_sha256": digest, "files": {"train.csv": digest}, "split": {"val": 0.1}})

    def folds(self, name: str, draws: Draws) -> int:
        return draws.folds

    def file(self, value: str) -> WeightsRef:
        return WeightsRef(sha256=hashlib.sha256(value.encode()).hexdigest(), named="file")

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        return None

    def task(self, card: str) -> str:
        return "multilabel"

    def labels(self, card: str) -> tuple[str, ...]:
        return ("pleural_effusion",)

    def overlap(self, trained: str, card: str, split: str) -> str:
        return ""

    def pooled(self, card: str, split: str) -> tuple[str, ...]:
        return ()


def grid_of(points: int) -> Sweep:
    """Return a sweep of four axes with about as many train jobs: two config axes and draws at ten fractions."""
    repeats = max(1, points // 1000)
    rates = tuple({"lr": 1e-5 * (index + 1)} for index in range(10))
    decays = tuple({"weight_decay": 0.01 * (index + 1)} for index in range(10))
    fractions = tuple((index + 1) / 10 for index in range(10))
    phase = Phase(
        name="finetune",
        trainer="bench",
        data="chexpert",
        axes=(
            Axis(kind=AxisKind.COMPARE, keys=("lr",), points=rates),
            Axis(kind=AxisKind.COMPARE, keys=("weight_decay",), points=decays),
        ),
        draws=Draws(fractions=fractions, repeats=(repeats,) * 10),
    )
    return Sweep(name="bench", phases=(phase,))


def measure(points: int = 100_000) -> list[Row]:
    """Expand the grid: wall clock, and CPU time for machines that are shared."""
    catalog = {"bench": Declaration(name="bench", version=1, config=Config, package="bench", starts=("init",))}
    sweep = grid_of(points)
    started, used = time.perf_counter(), time.process_time()
    plan = expand(sweep, catalog, Digests())
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    note = f"{cpu:.2f} s of CPU, {cpu / len(plan.jobs) * 1e6:.1f} us a job"
    return [Row(what=f"{len(plan.jobs):,} jobs expanded", ours=f"{seconds:.2f} s", against="aim 3 s for 100,000", note=note)]
