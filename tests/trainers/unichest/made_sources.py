"""Sources that differ, held in memory: in what they call their labels, in how many there are, and in how their films look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.trainers.made_data import MemoryStore, made_images, made_rows
from tests.trainers.made_host import MemoryHost
from trainers.api import Outcome, Parent, Setup, Source
from trainers.data.access import Access, Rows
from trainers.loop import fit, prepare
from trainers.parts.metrics import measure
from trainers.sources import measured_by_source
from trainers.unichest import train
from trainers.unichest.config import Config

#: Card -> (labels, training images). The first label is bright at the upper left, the second is noise.
CARDS: dict[str, tuple[tuple[str, ...], int]] = {
    "alpha": (("pleural_effusion", "nodule"), 48),
    "beta": (("effusion", "tuberculosis"), 32),
}
POLICIES = {"uncertain": "ignore", "missing": "zeros"}
VAL = 24
TINY = Config(
    arch="slim",
    px=32,
    width=32,
    hidden=48,
    layers=2,
    experts=3,
    gate_width=8,
    epochs=3,
    batch_size=16,
    lr=2e-3,
    augment="none",
    fourier="off",
)
DIVIDE = replace(TINY, stage="divide", main_ratio=0.5, bias_ratio=0.5, moe_ratio=1.0)


def source(
    card: str,
    *,
    px: int = 32,
    val: bool = True,
    uncertain: bool = False,
    like: str = "",
    reports: Callable[[Rows], list[str | None] | None] = lambda rows: None,
) -> Access:
    """Open a source: its training images, then 24 of validation, then test; `like` gives it another's film."""
    names, train_images = CARDS.get(card, CARDS["beta"])
    n = train_images + VAL + 10
    seed = sum(map(ord, card))
    rows = made_rows(n, seed, flaws=uncertain)
    images = made_images(rows, px, seed)
    if (like or card) == "beta":
        images = 120 + images // 2
    rows = replace(rows, card=card, label_names=names)
    bounds = {"train": (0, train_images), "val": (train_images, train_images + VAL), "test": (train_images + VAL, n)}
    if not val:
        del bounds["val"]

    def rows_of(split: str) -> Rows | None:
        return rows.take(np.arange(*bounds[split])) if split in bounds else None

    return Access(
        card=card,
        label_names=names,
        rows_of=rows_of,
        store=lambda size: MemoryStore(images, [(px, px)] * n),
        is_open=lambda split: True,
        policies=POLICIES,
        reports=reports,
    )


def setup_of(config: Config = TINY, *cards: str, seed: int = 0, accesses: tuple[Access, ...] = (), **more: Any) -> Setup:
    """Return the setup of a stage on some cards, both by default."""
    opened = accesses or tuple(source(card, px=config.px) for card in cards or CARDS)
    return Setup(
        config=config,
        seed=seed,
        data=opened[0],
        sources=opened,
        labels=tuple(dict.fromkeys(name for one in opened for name in one.label_names)),
        learnt_from={one.card: Source(labels=one.label_names) for one in opened},
        device=torch.device("cpu"),
        **more,
    )


def each(scores: Any) -> Mapping[str, float]:
    """Measure every source by itself."""
    return measured_by_source(lambda card, one: measure(one, policies=POLICIES), scores)


def run(setup: Setup, folder: Path, *, stop_after: int | None = None) -> tuple[MemoryHost, Outcome, Any]:
    """Train through the loop."""
    folder.mkdir(exist_ok=True)
    host = MemoryHost(folder, stop_after)
    prepare(setup.seed, 1, torch.device("cpu"))
    method: Any = train.build(setup)
    return host, fit(method, setup.config, host, device=setup.device, measure=each), method


def parent(folder: Path, config: Config) -> Parent:
    """Return the last checkpoint of a conquer run as the parent of divide."""
    from dataclasses import asdict

    return Parent(files=(max(folder.glob("epoch-*.safetensors")),), trainer="unichest", config=asdict(config))
