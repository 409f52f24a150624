"""Every stage of an AG-CNN on two processes over gloo is the one that one process trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from tests.trainers.ag_cnn.made_lesions import TINY, parents_of, setup_of
from tests.trainers.toy import CPU, FolderHost
from tests.trainers.two_processes import together
from trainers.ag_cnn import train
from trainers.loop import fit, prepare
from trainers.parts.metrics import measure

ROLES: dict[str, tuple[str, ...]] = {"global": (), "local": ("global",), "fusion": ("global", "local"), "joint": ()}
CONFIG = replace(TINY, px=64, epochs=1, batch_size=16, bn_images=8, optimizer="sgd", lr=0.01)


def measured(scores: Any) -> Mapping[str, float]:
    return measure(scores, policies={"uncertain": "ignore", "missing": "zeros"})


def run(folder: Path, start: Path) -> None:
    """Train each stage in a folder, alone or as a member of the group, and write what this process saw."""
    prepare(3, 1, CPU)
    found = parents_of(start / str(distributed.get_rank() if distributed.is_initialized() else 0), CONFIG)
    seen: dict[str, Any] = {}
    for branch, roles in ROLES.items():
        config: Any = replace(CONFIG, branch=branch)
        method: Any = train.build(setup_of(config, seed=3, parents={role: found[role] for role in roles}))
        host = FolderHost(folder / branch)
        fit(method, config, host, device=CPU, measure=measured)
        seen[branch] = {"module": method.module.state_dict(), "lines": [values for _, _, values in host.lines]}
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.save(seen, folder / f"rank{rank}.pt")


def test_two_processes_are_one_in_every_stage(tmp_path: Path) -> None:
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
    (tmp_path / "one").mkdir()
    run(tmp_path / "one", tmp_path)
    alone = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    first, second = together(run, tmp_path / "two", tmp_path)
    for branch in ROLES:
        one, two = alone[branch], first[branch]
        assert two["lines"][0]["train/loss"] == pytest.approx(one["lines"][0]["train/loss"], rel=1e-4), branch
        for name, value in one["module"].items():
            scale = max(float(value.double().abs().max()), 0.1)
            assert float((two["module"][name].double() - value.double()).abs().max()) <= 2e-3 * scale, (branch, name)
            assert torch.equal(two["module"][name], second[branch]["module"][name]), (branch, name)
