"""Accumulated passes are the whole batch; when memory runs out, the loop makes them smaller and goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainers.toy import CPU, Config, FolderHost, Masked, Toy, kept_digest, run
from trainers.api import Scores
from trainers.loop import is_cuda_oom, prepare
from trainers.parts.batchnorm import Grouped

SMOOTH = Config(epochs=2, norm="layer", dropout=0.0, optimizer="sgd")


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare(7, 1, CPU)


def gradients(folder: Path, config: Config, kind: type[Toy] = Toy) -> tuple[list[Tensor], list[float]]:
    """Return the gradient of a run's last step, and every loss."""
    prepare(7, 1, CPU)
    trainer = kind(config, 7)
    _, host = run(folder, config, trainer)
    found = [p.grad.clone() for p in trainer.module.parameters() if p.grad is not None]
    return found, [float.fromhex(value) for value in host.losses()]


def largest_gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the largest difference of two gradients over the largest entry."""
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) / max(float(b.abs().max()) for b in theirs)


@pytest.mark.parametrize("micro", [1, 3, 4, 7])
def test_accumulated_batches_have_the_gradient_of_the_whole(tmp_path: Path, micro: int) -> None:
    whole, losses = gradients(tmp_path / "whole", SMOOTH)
    parts, their_losses = gradients(tmp_path / "parts", dataclasses.replace(SMOOTH, micro_batch=micro))
    assert largest_gap(parts, whole) < 1e-5
    assert their_losses == pytest.approx(losses, rel=1e-5)


def test_accumulated_batchnorm_groups_have_the_gradient_of_the_whole(tmp_path: Path) -> None:
    config = dataclasses.replace(SMOOTH, norm="batch", bn_images=2)
    whole, losses = gradients(tmp_path / "whole", config)
    parts, their_losses = gradients(tmp_path / "parts", dataclasses.replace(config, micro_batch=4))
    plain, _ = gradients(tmp_path / "plain", dataclasses.replace(config, bn_images=0))
    assert largest_gap(parts, whole) < 1e-5
    assert their_losses == pytest.approx(losses, rel=1e-5)
    assert largest_gap(plain, whole) > 0.01  # Otherwise the groups would not matter and the test would say nothing.


class Unweighted(Masked):
    says_weight = False


def test_a_masked_loss_is_weighted_by_its_known_labels(tmp_path: Path) -> None:
    whole, losses = gradients(tmp_path / "whole", SMOOTH, Masked)
    config = dataclasses.replace(SMOOTH, micro_batch=3)
    parts, their_losses = gradients(tmp_path / "parts", config, Masked)
    assert largest_gap(parts, whole) < 1e-5
    assert their_losses == pytest.approx(losses, rel=1e-5)
    assert largest_gap(gradients(tmp_path / "by images", config, Unweighted)[0], whole) > 0.01


class Greedy(Toy):
    """A toy on a device that holds `fits` images.

    The one thing that is made up here: without a GPU, its allocator's exception is raised with its message by the test.
    """

    fits, from_step = 3, 0

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        self.module(batch["x"])  # Random numbers are drawn and running statistics move before memory runs out.
        if len(batch["x"]) > self.fits and self.done >= self.from_step:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139 GiB")
        return super().loss(batch)

    done = 0

    def after_step(self, step: int) -> None:
        super().after_step(step)
        self.done = step + 1


class Roomy(Greedy):
    fits = 10**6


@pytest.mark.parametrize("fits", [1, 3, 4])
def test_out_of_memory_halves_the_passes_and_starts_again_where_it_was(tmp_path: Path, fits: int) -> None:
    config = Config(norm="layer")  # Dropout on: the random numbers of the failed pass must be given back.
    trainer = Greedy(config, 7)
    trainer.fits = fits
    outcome, host = run(tmp_path / "greedy", config, trainer)
    assert outcome.finished
    micro = {1: 1, 3: 2, 4: 4}[fits]
    assert host.store.kept()[-1]["info"]["micro_batch"] == micro
    prepare(7, 1, CPU)
    small = dataclasses.replace(config, micro_batch=micro)
    _, same = run(tmp_path / "small", small, Roomy(small, 7))
    assert host.losses() == same.losses()
    assert kept_digest(host) == kept_digest(same)


def test_out_of_memory_later_goes_back_to_the_last_resume_file(tmp_path: Path) -> None:
    config = Config(norm="layer", dropout=0.0, save_every_steps=2)
    trainer = Greedy(config, 7)
    trainer.fits, trainer.from_step = 4, 5
    outcome, host = run(tmp_path / "greedy", config, trainer)
    assert outcome.finished
    steps = [step for step, _, metrics in host.lines if "train/loss" in metrics]
    assert steps == [1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
    prepare(7, 1, CPU)
    _, whole = run(tmp_path / "whole", config, Roomy(config, 7))
    ours = [float.fromhex(value) for value in host.losses()]
    theirs = [float.fromhex(value) for value in whole.losses()]
    assert ours[:5] == theirs[:5]
    assert ours[5:] == pytest.approx(theirs[4:], rel=1e-4)


def test_a_smaller_micro_batch_is_remembered_by_the_resume_file(tmp_path: Path) -> None:
    config = Config(norm="layer")
    greedy = Greedy(config, 7)
    host = FolderHost(tmp_path)
    host.should_stop = lambda: len(host.losses()) >= 4
    outcome, _ = run(tmp_path, config, greedy, host)
    assert not outcome.finished
    again = Greedy(config, 7)
    run(tmp_path, config, again)
    assert set(again.calls) == {"loss 2"}


@pytest.mark.parametrize(
    ("change", "attributes"),
    [
        ({"fits": 0}, {}),  # One image is too many.
        ({}, {"norm": "batch"}),  # Smaller passes would be smaller BatchNorm groups: another experiment.
        ({"accumulates": False}, {}),
    ],
)
def test_out_of_memory_is_raised_when_smaller_passes_are_no_way_out(
    tmp_path: Path, change: Mapping[str, Any], attributes: Mapping[str, Any]
) -> None:
    config = Config(**{"norm": "layer", **attributes})
    trainer = Greedy(config, 7)
    for name, value in change.items():
        setattr(trainer, name, value)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        run(tmp_path, config, trainer)


def test_out_of_memory_in_validation_is_raised(tmp_path: Path) -> None:
    class Wide(Toy):
        def validate(self) -> Scores | None:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        run(tmp_path, SMOOTH, Wide(SMOOTH))


def test_out_of_memory_on_batchnorm_groups_keeps_the_groups_whole(tmp_path: Path) -> None:
    config = Config(bn_images=2)
    trainer = Greedy(config, 7)
    trainer.fits = 3
    _, host = run(tmp_path, config, trainer)
    assert isinstance(trainer.module.get_submodule("1"), Grouped)
    assert host.store.kept()[-1]["info"]["micro_batch"] == 2


def test_only_the_allocators_own_words_are_out_of_memory() -> None:
    assert is_cuda_oom(torch.OutOfMemoryError("anything"))
    assert not is_cuda_oom(RuntimeError("expected scalar type Float"))
