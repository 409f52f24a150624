"""A watched pretraining is the pretraining that it would have been, with numbers beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.made_data import made_access
from tests.trainers.made_host import run
from trainers.api import Setup
from trainers.moco_cxr import train
from trainers.moco_cxr.config import MONITORS, Config

TINY = Config(
    arch="slim",
    px=32,
    epochs=3,
    batch_size=16,
    queue_size=32,
    optimizer="adamw",
    lr=1e-3,
    schedule="cosine",
    momentum=0.99,
    augment="cxr_plus",
    collapse_guard=False,
    drop_path=0.2,
)
WATCHED = replace(TINY, watch_every_epochs=2, watch_images=60)


def _setup(config: Config) -> Setup:
    data = made_access(n=120, sizes=(64, 40))
    # A stage that trains may not open the test split.
    data._is_open = lambda split: split != "test"
    return Setup(config=config, seed=3, data=data, device=torch.device("cpu"))


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_equal(value, theirs[name]) for name, value in ours.items())
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    return ours == theirs


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_watching_changes_no_bit_of_weights_buffers_queue_and_random_streams(tmp_path: Path, precision: Any) -> None:
    plain, _, _ = run(train, _setup(replace(TINY, precision=precision)), tmp_path / "plain")
    watched, outcome, _ = run(train, _setup(replace(WATCHED, precision=precision)), tmp_path / "watched")
    assert watched.digests == plain.digests and len(plain.digests) == 3
    for mine, theirs in zip(sorted((tmp_path / "watched").glob("state-*")), sorted((tmp_path / "plain").glob("state-*")), strict=True):
        assert _equal(torch.load(mine, weights_only=True), torch.load(theirs, weights_only=True))
    # But for what was seen, what was logged is the same too.
    without = [(step, {name: value for name, value in line.items() if not name.startswith("val/")}) for step, line in watched.logged]
    assert without == plain.logged
    assert not plain.values("val/knn/auroc_macro") and not [name for name in plain.logged[-1][1] if name.startswith("val/")]
    # Every second epoch, and the last.
    assert len(watched.values("val/knn/auroc_macro")) == len(watched.values("val/probe/auroc/signal")) == 2
    assert all(name.replace("<label>", "signal") in outcome.metrics for name in MONITORS)


def test_the_planted_label_is_told_and_the_queue_has_its_three_numbers(tmp_path: Path) -> None:
    host, _, trainer = run(train, _setup(WATCHED), tmp_path)
    assert host.values("val/probe/auroc/signal")[-1] > 0.8
    assert trainer.facts() == {"watched": {"train": 30, "val": 30, "labels": ["signal", "noise"], "not_estimable": []}}
    top1, top5 = host.values("epoch/queue_accuracy"), host.values("epoch/queue_top5")
    assert len(host.values("epoch/loss")) == len(top1) == len(top5) == 3
    assert all(one <= five <= 1 for one, five in zip(top1, top5, strict=True)) and top5[-1] > 5 / 33


def test_a_watched_run_that_was_stopped_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    whole, _, _ = run(train, _setup(WATCHED), tmp_path / "whole")
    # Six steps into three epochs of four: between the first look and the second.
    _, outcome, _ = run(train, _setup(WATCHED), tmp_path / "cut", stop_after=6)
    assert not outcome.finished
    resumed, _, _ = run(train, _setup(WATCHED), tmp_path / "cut")
    assert resumed.digests["epoch-0003"] == whole.digests["epoch-0003"]
    assert resumed.logged[-1] == whole.logged[-1] and "val/knn/auroc_macro" in whole.logged[-1][1]


def test_the_control_on_scrambled_images_is_watched_on_real_ones(tmp_path: Path) -> None:
    trainer = run(train, _setup(replace(WATCHED, images="scrambled", epochs=1)), tmp_path)[2]
    position = int(trainer.watch.val.position[0])
    trainer.setup.data.rows("val")
    assert np.array_equal(trainer._seen.image(position), trainer.setup.data.images(32).image(position))
    assert not np.array_equal(trainer._seen.image(position), trainer.store.image(position))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"watch_every_epochs": 3, "save_every_epochs": 2}, r"no multiple of save_every_epochs \(2\), so that what is watched could not"),
        ({"watch_every_epochs": -1}, "watch_every_epochs: is -1, and must be 0 or more"),
        ({"watch_images": 10}, "watch_images: is 10, and must be 40 or more"),
    ],
)
def test_settings_that_cannot_be_watched_are_refused_when_planned(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **changes)
