"""Momentum contrast on two processes over gloo is the experiment that one process makes."""

from __future__ import annotations

from collections.abc import Mapping
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
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config

#: 64 pixels and groups of 8: BatchNorm over 4 images of one value each would blow rounding up until nothing can be compared.
TINY = Config(
    arch="slim",
    px=64,
    epochs=2,
    batch_size=16,
    queue_size=48,
    bn_images=8,
    optimizer="sgd",
    lr=0.01,
    weight_decay=1e-4,
    schedule="cosine",
    momentum=0.9,
    augment="cxr_plus",
    collapse_guard=False,
)
CASES = {
    "half each": replace(TINY, batch_size=32),
    "a third and two thirds": replace(TINY, batch_size=24),
    "accumulated": replace(TINY, batch_size=32, micro_batch=8),
    "in bfloat16": replace(TINY, batch_size=32, precision="bf16"),
    "without shuffled keys": replace(TINY, batch_size=32, key_bn_groups=1),
    "shuffled as on four GPUs": replace(TINY, batch_size=32, key_bn_groups=1, shuffle="across"),
    "watched": replace(TINY, batch_size=32, watch_every_epochs=1, watch_images=60),
}
#: Of the largest entry: sums in another order, after the first step and after the last, up to which a ReLU may have flipped.
FIRST, LAST = {"fp32": 2e-5, "bf16": 0.1}, {"fp32": 2e-3, "bf16": 0.1}


def run(folder: Path, config: Config, stop_after: int = 0) -> None:
    """Pretrain in a folder, alone or as a member of the group, and write what this process saw."""
    prepare(3, 1, CPU)
    setup = Setup(config=config, seed=3, data=made_access(n=84, px=config.px, sizes=(64, 20)), device=CPU)
    method: Any = train.build(setup)
    host = FolderHost(folder / "checkpoints")
    if stop_after:
        # One process alone is asked to stop: both must.
        host.should_stop = lambda: len(host.lines) >= stop_after
    gradients: dict[str, Tensor] = {}
    log = host.log

    def logged(step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        log(step, epoch, metrics)
        if step == 1 and not gradients:
            gradients.update({name: p.grad.clone() for name, p in method.module.named_parameters()})

    host.log = logged  # type: ignore[method-assign]
    outcome = fit(method, config, host, device=CPU)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    seen: dict[str, Any] = {
        "gradients": gradients,
        "module": method.module.state_dict(),
        # Not its buffers: the running statistics of an encoder that is always in training are never read.
        "key_encoder": dict(method.key_encoder.named_parameters()),
        "queue": method.queue.ordered(),
        "lines": [values for _, _, values in host.lines],
        "states": host.states,
        "finished": outcome.finished,
    }
    torch.save(seen, folder / f"rank{rank}.pt")


def alone(folder: Path, config: Config) -> dict[str, Any]:
    folder.mkdir()
    run(folder, replace(config, micro_batch=0))
    return torch.load(folder / "rank0.pt", weights_only=True)


def exported(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / "epoch-0002.safetensors")


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    """Compare tensor by tensor, against the largest entry of each, or 0.1: a bias that has hardly left 0 is mostly rounding."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        scale = max(float(value.double().abs().max()), 0.1)
        assert float((ours[name].double() - value.double()).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("case", CASES)
def test_two_processes_log_and_export_what_one_does(tmp_path: Path, case: str) -> None:
    config = CASES[case]
    first_step, tolerance = FIRST[config.precision], LAST[config.precision]
    one = alone(tmp_path / "one", config)
    first, second = together(run, tmp_path / "two", config)
    assert len(one["lines"]) >= 3
    assert first["lines"][0]["train/loss"] == pytest.approx(one["lines"][0]["train/loss"], rel=first_step)
    assert_close(first["gradients"], one["gradients"], first_step)
    for mine, theirs in zip(first["lines"], one["lines"], strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance, abs=1e-6 if config.precision == "fp32" else 0.05)
    watched = [line["val/knn/auroc_macro"] for line in first["lines"] if "val/knn/auroc_macro" in line]
    assert len(watched) == (2 if config.watch_every_epochs else 0)
    assert_close(exported(tmp_path / "two"), exported(tmp_path / "one"), tolerance)
    assert_close(first["key_encoder"], one["key_encoder"], tolerance)
    assert_close({"queue": first["queue"]}, {"queue": one["queue"]}, tolerance)
    # Both processes hold the same, to the last bit: encoder, slow copy, queue.
    for part in ("module", "key_encoder"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    assert torch.equal(first["queue"], second["queue"])
    # The first alone logs and writes.
    assert first["states"] and not second["lines"] and not second["states"]


def test_two_processes_stop_together_and_go_on_exactly(tmp_path: Path) -> None:
    whole = together(run, tmp_path / "whole", TINY)
    stopped = together(run, tmp_path / "parts", TINY, 1)
    assert [one["finished"] for one in stopped] == [False, False]
    assert stopped[0]["states"] == [(1, 0)]
    resumed = together(run, tmp_path / "parts", TINY)
    assert [one["finished"] for one in resumed] == [True, True]
    assert stopped[0]["lines"] + resumed[0]["lines"] == whole[0]["lines"]
    for part in ("module", "key_encoder"):
        assert all(torch.equal(resumed[0][part][name], value) for name, value in whole[0][part].items())
    assert torch.equal(resumed[0]["queue"], whole[0]["queue"])
    assert (tmp_path / "parts/checkpoints/epoch-0002.safetensors").read_bytes() == (
        tmp_path / "whole/checkpoints/epoch-0002.safetensors"
    ).read_bytes()
