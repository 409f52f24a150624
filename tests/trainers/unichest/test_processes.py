"""UniChest on two processes over gloo: with gathered negatives it is the experiment that one process makes, without it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from tests.trainers.toy import CPU, FolderHost
from tests.trainers.two_processes import together
from tests.trainers.unichest.made_sources import DIVIDE, TINY, each, parent, setup_of
from tests.trainers.unichest.made_sources import run as run_alone
from trainers.loop import fit, prepare
from trainers.unichest import train
from trainers.unichest.config import Config

CONQUER = replace(TINY, epochs=1, bn_images=8)
CONFIG = replace(DIVIDE, epochs=1, bn_images=8, dropout=0.0, fourier="all", fourier_p=1.0, augment="published", lr=5e-4)


def run(folder: Path, config: Config, start: Path) -> None:
    """Divide in a folder, alone or as a member of the group, and write what this process saw."""
    prepare(3, 1, CPU)
    method: Any = train.build(setup_of(config, seed=3, parents={"init": parent(start, CONQUER)}))
    host = FolderHost(folder / "checkpoints")
    fit(method, config, host, device=CPU, measure=each)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.save({"module": method.module.state_dict(), "lines": [values for _, _, values in host.lines]}, folder / f"rank{rank}.pt")


def test_two_processes_with_gathered_negatives_are_one(tmp_path: Path) -> None:
    run_alone(setup_of(CONQUER, seed=3), tmp_path / "conquer")
    (tmp_path / "one").mkdir()
    run(tmp_path / "one", CONFIG, tmp_path / "conquer")
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    first, second = together(run, tmp_path / "two", CONFIG, tmp_path / "conquer")
    for name in ("loss", "image", "text", "clip", "source"):
        assert first["lines"][0][f"train/{name}"] == pytest.approx(one["lines"][0][f"train/{name}"], rel=1e-4), name
    for name, value in one["module"].items():
        scale = max(float(value.double().abs().max()), 0.1)
        assert float((first["module"][name].double() - value.double()).abs().max()) <= 2e-3 * scale, name
    assert all(torch.equal(first["module"][name], second["module"][name]) for name in first["module"])
    own, _ = together(run, tmp_path / "own", replace(CONFIG, gather=False), tmp_path / "conquer")
    assert own["lines"][0]["train/image"] == pytest.approx(one["lines"][0]["train/image"], rel=1e-4)
    # Eight images contrasted with eight are another, smaller loss than sixteen with sixteen.
    assert own["lines"][0]["train/clip"] < 0.95 * one["lines"][0]["train/clip"]
