"""Masked image modelling on two processes over gloo is the experiment that one process makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from tests.trainers.made_data import made_access
from tests.trainers.toy import CPU, FolderHost
from tests.trainers.two_processes import together
from trainers.api import Setup
from trainers.loop import fit, prepare
from trainers.simmim import train
from trainers.simmim.config import Config

TINY = Config(
    arch="slim_swin",
    px=32,
    window=None,
    mask_patch=8,
    epochs=2,
    batch_size=12,
    lr=1e-3,
    lr_images=0,
    collapse_guard=False,
    pictures_every_epochs=2,
    watch_every_epochs=2,
    watch_images=40,
)
#: A batch that does not divide, and parts of it.
CASES = {"shared unevenly, in parts": replace(TINY, batch_size=13, micro_batch=4), "a ViT": replace(TINY, arch="slim_vit")}


def run(folder: Path, config: Config, stop_after: int = 0) -> None:
    """Pretrain in a folder, alone or as a member of the group, and write what this process saw."""
    prepare(3, 1, CPU)
    method: Any = train.build(Setup(config=config, seed=3, data=made_access(n=60, px=config.px, sizes=(40, 20)), device=CPU))
    host = FolderHost(folder / "checkpoints")
    if stop_after:
        host.should_stop = lambda: len(host.lines) >= stop_after
    outcome = fit(method, config, host, device=CPU)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    seen = {"lines": [values for _, _, values in host.lines], "module": method.module.state_dict(), "finished": outcome.finished}
    torch.save(seen, folder / f"rank{rank}.pt")


def exported(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / "epoch-0002.safetensors")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_log_and_export_what_one_does(tmp_path: Path, case: str) -> None:
    config = CASES[case]
    (tmp_path / "one").mkdir()
    run(tmp_path / "one", replace(config, micro_batch=0))
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    first, second = together(run, tmp_path / "two", config)
    assert first["lines"][0]["train/loss"] == pytest.approx(one["lines"][0]["train/loss"], rel=1e-5)
    for mine, theirs in zip(first["lines"], one["lines"], strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3, abs=1e-6)
    assert "val/reconstruction" in first["lines"][-1] and "val/knn/auroc_macro" in first["lines"][-1]
    mine, theirs = exported(tmp_path / "two"), exported(tmp_path / "one")
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.allclose(mine[name], value, rtol=0, atol=2e-3 * max(0.1, float(value.abs().max()))), name
    # Both processes hold the same to the last bit; the first alone logs, writes and draws.
    assert all(torch.equal(first["module"][name], second["module"][name]) for name in first["module"])
    assert second["lines"] == []
    assert [path.name for path in (tmp_path / "two" / "pictures").iterdir()] == ["reconstruction-epoch-0002.png"]


def test_two_processes_stop_together_and_go_on_exactly(tmp_path: Path) -> None:
    whole = together(run, tmp_path / "whole", TINY)
    stopped = together(run, tmp_path / "parts", TINY, 1)
    assert [one["finished"] for one in stopped] == [False, False]
    resumed = together(run, tmp_path / "parts", TINY)
    assert [one["finished"] for one in resumed] == [True, True]
    assert stopped[0]["lines"] + resumed[0]["lines"] == whole[0]["lines"]
    for name in ("checkpoints/epoch-0002.safetensors", "pictures/reconstruction-epoch-0002.png"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
