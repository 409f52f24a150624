"""Validation and checkpoints on a grid of images seen, as MoCo-CXR's fine-tuning has them, instead of by epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.toy import CPU, Config, FolderHost, Toy, run, weights_digest
from trainers.errors import Error
from trainers.loop import prepare

#: Three steps of 8 images an epoch.
GRID = Config(epochs=4, save_every_examples=16, save_every_steps=0, keep_best=-1)


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare(7, 1, CPU)


class Watched(Toy):
    """Remembers the digest of its weights before each step."""

    def __init__(self, config: Config, seed: int = 7) -> None:
        super().__init__(config, seed)
        self.before: dict[int, str] = {}

    def before_step(self, step: int) -> None:
        assert self.module.training
        self.before[step] = weights_digest(self.module)


def weights_of(host: FolderHost, name: str) -> str:
    from safetensors.torch import load_file

    trainer = Toy(GRID, 0)
    trainer.module.load_state_dict(load_file(host.store.file(name, "safetensors")))
    return weights_digest(trainer.module)


def test_what_is_kept_is_the_state_before_the_step_and_the_last_is_missed(tmp_path: Path) -> None:
    trainer = Watched(GRID)
    outcome, host = run(tmp_path, GRID, trainer)
    kept = host.store.kept()
    # 12 steps of 8 images: looked at before steps 2, 4, ... 10, and never after the last.
    assert [entry["name"] for entry in kept] == [f"examples-{8 * step:010d}" for step in (2, 4, 6, 8, 10)]
    assert [(entry["step"], entry["epoch"]) for entry in kept] == [(2, 1), (4, 2), (6, 2), (8, 3), (10, 4)]
    for entry in kept:
        assert weights_of(host, entry["name"]) == trainer.before[entry["step"]]
    assert [step for step, _, metrics in host.lines if "val/right" in metrics] == [2, 4, 6, 8, 10]
    assert [epoch for _, epoch, metrics in host.lines if "epoch/loss" in metrics] == [1, 2, 3, 4]
    assert (outcome.finished, outcome.step) == (True, 12)


def test_it_changes_no_step(tmp_path: Path) -> None:
    by_epoch, on_grid = Toy(Config(epochs=4), 7), Toy(GRID, 7)
    prepare(7, 1, CPU)
    run(tmp_path / "a", Config(epochs=4), by_epoch)
    prepare(7, 1, CPU)
    run(tmp_path / "b", GRID, on_grid)
    assert weights_digest(by_epoch.module) == weights_digest(on_grid.module)


@pytest.mark.parametrize("best", [1, 2, 3])
def test_only_the_best_stay_and_the_last_is_one_of_them_or_not(tmp_path: Path, best: int) -> None:
    _, every = run(tmp_path / "all", GRID)
    prepare(7, 1, CPU)
    _, host = run(tmp_path / "best", Config(epochs=4, save_every_examples=16, save_every_steps=0, keep_best=best))
    ranked = sorted(every.store.kept(), key=lambda entry: (-entry["metrics"]["val/right"], entry["step"]))
    assert {entry["name"] for entry in host.store.kept()} == {entry["name"] for entry in ranked[:best]}


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_too_short_for_the_grid_keeps_its_last(tmp_path: Path, epochs: int) -> None:
    _, host = run(tmp_path, Config(epochs=epochs, save_every_examples=48, save_every_steps=0))
    # The sixth step of two epochs ends on the grid, and nothing follows it before which it could be looked at.
    assert [entry["name"] for entry in host.store.kept()] == [f"epoch-{epochs:04d}"]
    assert "val/right" in host.store.kept()[0]["metrics"]


@pytest.mark.parametrize("stop_after", range(1, 12))
def test_stopped_anywhere_and_resumed_it_keeps_the_same(tmp_path: Path, stop_after: int) -> None:
    whole = Toy(GRID, 7)
    _, expected = run(tmp_path / "whole", GRID, whole)
    asked: Iterator[bool] = iter([False] * stop_after + [True])
    prepare(7, 1, CPU)
    outcome, _ = run(tmp_path / "cut", GRID, host=FolderHost(tmp_path / "cut", lambda: next(asked)))
    assert not outcome.finished
    prepare(7, 1, CPU)
    resumed = Toy(GRID, 7)
    outcome, host = run(tmp_path / "cut", GRID, resumed)
    assert outcome.finished and weights_digest(resumed.module) == weights_digest(whole.module)
    assert [json.dumps(entry, sort_keys=True) for entry in host.store.kept()] == [
        json.dumps(entry, sort_keys=True) for entry in expected.store.kept()
    ]


@pytest.mark.parametrize("change", [{"save_every_examples": 12}, {"save_every_examples": -8}, {"save_every_examples": 8, "batch_size": 0}])
def test_a_grid_that_batches_step_over_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    from dataclasses import replace

    with pytest.raises(Error, match=r"config.save_every_examples: -?\d+ is no multiple of batch_size \(\d\), set one that is"):
        run(tmp_path, replace(Config(), **change), Toy(Config()))
