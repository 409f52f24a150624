"""Ark on two processes over gloo is the experiment that one process makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from tests.trainers.ark.made_sources import TINY, setup_of
from tests.trainers.toy import CPU, FolderHost
from tests.trainers.two_processes import together
from trainers.api import Scores
from trainers.ark import train
from trainers.ark.config import Config
from trainers.loop import fit, prepare
from trainers.parts.metrics import measure
from trainers.sources import measured_by_source

#: Views of 64 pixels: BatchNorm over 4 images of one value each would blow rounding up.
SMALL = replace(TINY, px=64, epochs=2, batch_size=16, bn_images=8, lr=0.02, warmup=0.5, student_view="ark")
CASES = {
    "in turn, a pass at a time": replace(SMALL, ema="pass", teacher_view="bilinear"),
    "in turn, accumulated": replace(SMALL, micro_batch=8),
    "mixed, by the validation loss": replace(SMALL, mode="concurrent", schedule="cosine_of_val_loss"),
}
#: Of the largest entry of a tensor, after the last step: sums in another order, up to which a ReLU may have flipped.
TOLERANCE = 2e-3


def run(folder: Path, config: Config, stop_after: int = 0) -> None:
    """Train in a folder, alone or as a member of the group, and write what this process saw."""
    prepare(3, 1, CPU)
    method: Any = train.build(setup_of(config, seed=3))
    host = FolderHost(folder / "checkpoints")
    if stop_after:
        host.should_stop = lambda: len(host.lines) >= stop_after

    def each(scores: Any) -> Mapping[str, float]:
        policies = {"uncertain": "ignore", "missing": "zeros"}
        named: Mapping[str, Scores] = scores
        return measured_by_source(lambda card, one: measure(one, policies=policies), named)

    outcome = fit(method, config, host, device=CPU, measure=each)
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    seen = {
        "module": method.module.state_dict(),
        "teacher": method.teacher.state_dict(),
        "lines": [values for _, _, values in host.lines],
        "finished": outcome.finished,
    }
    torch.save(seen, folder / f"rank{rank}.pt")


def alone(folder: Path, config: Config) -> dict[str, Any]:
    folder.mkdir()
    run(folder, replace(config, micro_batch=0))
    return torch.load(folder / "rank0.pt", weights_only=True)


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        scale = max(float(value.double().abs().max()), 0.1)
        assert float((ours[name].double() - value.double()).abs().max()) <= TOLERANCE * scale, name


@pytest.mark.parametrize("case", CASES)
def test_two_processes_log_and_export_what_one_does(tmp_path: Path, case: str) -> None:
    config = CASES[case]
    one = alone(tmp_path / "one", config)
    first, second = together(run, tmp_path / "two", config)
    assert first["lines"][0]["train/loss"] == pytest.approx(one["lines"][0]["train/loss"], rel=2e-5)
    for mine, theirs in zip(first["lines"], one["lines"], strict=True):
        trained = {name: value for name, value in theirs.items() if not name.startswith("val/")}
        assert {name: mine[name] for name in trained} == pytest.approx(trained, rel=TOLERANCE, abs=1e-5)
    assert_close(first["teacher"], one["teacher"])
    exported = load_file(tmp_path / "two" / "checkpoints" / "epoch-0002.safetensors")
    assert_close(exported, one["teacher"])
    # Both processes hold the same, to the last bit: a head's first gradient, the teacher's running statistics, all of it.
    for part in ("module", "teacher"):
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    assert not second["lines"]


def test_two_processes_stop_together_in_a_pass_and_go_on_exactly(tmp_path: Path) -> None:
    config = CASES["in turn, a pass at a time"]
    whole = together(run, tmp_path / "whole", config)
    stopped = together(run, tmp_path / "parts", config, 1)
    assert [one["finished"] for one in stopped] == [False, False]
    resumed = together(run, tmp_path / "parts", config)
    assert [one["finished"] for one in resumed] == [True, True]
    assert stopped[0]["lines"] + resumed[0]["lines"] == whole[0]["lines"]
    for part in ("module", "teacher"):
        assert all(torch.equal(resumed[0][part][name], value) for name, value in whole[0][part].items())
