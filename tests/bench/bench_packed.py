"""Linear evaluation of all draws of a frozen network: packed, and one job after another; CPU time of one thread.

16 draws of 2 networks (ResNet-18, 64 px) with 14 labels, as a label-fraction study has them: each is trained, scored on validation and on
the test split. Features are computed in both: packed once a network, else by every job, and with gradient steps in every epoch. The draws
are the same, and so are the predictions, to the tolerance that is shown. Images are at hand, decoded.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tests.bench.bench_loop import Nowhere
from tests.bench.rows import Row
from tests.trainers.made_data import MemoryStore, made_images, made_rows
from trainers.api import Parent, Setup
from trainers.classification import train
from trainers.classification.config import Config
from trainers.data.access import Access, Rows
from trainers.loop import fit, prepare
from trainers.parts import backbones

CPU = torch.device("cpu")
PX, LABELS = 64, 14
BOUNDS = {"train": (0, 1500), "val": (1500, 1800), "test": (1800, 2200)}
#: Images of a draw -> how many draws: a hundredth, a twenty-fifth, a sixth and all of the training images.
DRAWS = {15: 5, 60: 5, 240: 5, 1500: 1}
PROBE = Config(arch="resnet18", px=PX, freeze="backbone", augment="none", batch_size=16, lr=1e-3, save_every_epochs=5)
SOLVERS = {"logistic regression (L-BFGS)": PROBE, "20 epochs of gradient steps": replace(PROBE, solver="sgd", epochs=20)}


def labelled() -> tuple[Rows, np.ndarray]:
    """Return rows with 14 labels, each the brightness of a patch and noise, and their images."""
    random = np.random.default_rng(0)
    rows = made_rows(BOUNDS["test"][1])
    images = made_images(rows, PX)
    patches = images.reshape(len(images), 4, 16, 4, 16).mean((2, 4)).reshape(len(images), 16)[:, :LABELS]
    noisy = patches + random.normal(0, patches.std(), patches.shape)
    names = tuple(f"label_{at}" for at in range(LABELS))
    return replace(rows, labels=(noisy > np.median(noisy, 0)).astype(np.float32), label_names=names), images


def opened(rows: Rows, images: np.ndarray, drawn: np.ndarray, cache: Path) -> Access:
    """Open the images with one draw of the training ones."""
    return Access(
        card="made",
        label_names=rows.label_names,
        rows_of=lambda split: rows.take(drawn if split == "train" else np.arange(*BOUNDS[split])),
        store=lambda size: MemoryStore(images, [(PX, PX)] * len(images)),
        is_open=lambda split: True,
        parts_of=lambda split: [rows.take(np.arange(*BOUNDS[split]))],
        features=lambda px, exact: cache,
    )


def draws() -> list[np.ndarray]:
    """Return the training images of every draw."""
    random = np.random.default_rng(1)
    return [np.sort(random.choice(BOUNDS["train"][1], size, replace=False)) for size, count in DRAWS.items() for _ in range(count)]


def networks(folder: Path) -> list[Parent]:
    """Write what two pretrainings hand on."""
    found: list[Parent] = []
    for seed in (1, 2):
        state = backbones.build("resnet18", 1, PX, seed=seed).state_dict()
        file = folder / f"network-{seed}.safetensors"
        save_file({f"backbone.{name}": value.contiguous() for name, value in state.items()}, file)
        found.append(Parent(files=(file,), trainer="moco_cxr", config={"arch": "resnet18", "channels": 1}))
    return found


def study(config: Config, parents: Sequence[Parent], data: tuple[Rows, np.ndarray], cache: Path) -> tuple[float, list[np.ndarray]]:
    """Run every draw of every network to its test scores, and return CPU seconds and the scores."""
    start, found = time.process_time(), list[np.ndarray]()
    for parent in parents:
        for index, drawn in enumerate(draws()):
            prepare(index, 1, CPU)
            access = opened(*data, drawn, cache)
            method = train.build(Setup(config=config, seed=index, data=access, parents={"init": parent}, device=CPU))
            fit(method, config, Nowhere(), device=CPU)
            # What the evaluate stage does: thresholds from validation, then the test split.
            method.validate()
            found.append(method.predict(access.rows("test")).logits)
    return time.process_time() - start, found


def measure() -> list[Row]:
    """Return seconds of both ways, by solver."""
    rows: list[Row] = []
    data, count = labelled(), 2 * len(draws())
    for name, config in SOLVERS.items():
        with tempfile.TemporaryDirectory(prefix="packed-") as folder:
            parents = networks(Path(folder))
            packed, scores = study(replace(config, packed=True), parents, data, Path(folder) / "cache")
            alone, others = study(config, parents, data, Path(folder) / "none")
        largest = max(float(np.abs(a - b).max()) for a, b in zip(scores, others, strict=True))
        rows.append(
            Row(
                what=f"{name}, {count} linear classifiers of {LABELS} labels",
                ours=f"{packed:.1f} s packed",
                beside=f"{alone:.1f} s one by one",
                against=f"{alone / packed:.1f} times",
                note=f"largest difference of a logit {largest:.0e}",
            )
        )
    return rows
