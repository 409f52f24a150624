"""The loop: cadence, divergence, accumulation, memory, what is written."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.trainers.toy import CPU, Config, FolderHost, Toy, kept_digest, measure, rows, run, weights_digest
from trainers.api import Scores, Solver
from trainers.errors import Collapsed, Diverged, Error
from trainers.loop import fit, prepare

SMOOTH = Config(epochs=2, norm="layer", dropout=0.0, optimizer="sgd")


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare(7, 1, CPU)


# --- the course of a run ------------------------------------------------------------------------------------------------------------------


def test_a_run_logs_each_step_and_closes_each_epoch(tmp_path: Path) -> None:
    outcome, host = run(tmp_path, Config())
    assert (outcome.finished, outcome.step, outcome.epoch) == (True, 9, 3)
    assert [(step, epoch) for step, epoch, metrics in host.lines if "train/loss" in metrics] == [(s, (s - 1) // 3) for s in range(1, 10)]
    closing = [(step, epoch, metrics) for step, epoch, metrics in host.lines if "epoch/loss" in metrics]
    assert [(step, epoch) for step, epoch, _ in closing] == [(3, 1), (6, 2), (9, 3)]
    assert set(closing[-1][2]) == {"epoch/loss", "epoch/spread", "train/slow", "val/right"}
    first = [metrics["train/loss"] for _, epoch, metrics in host.lines if "train/loss" in metrics and epoch == 0]
    assert closing[0][2]["epoch/loss"] == math.fsum(first) / 3
    assert outcome.metrics == closing[-1][2]


def test_resume_files_come_in_steps_at_epoch_ends_and_never_twice(tmp_path: Path) -> None:
    _, host = run(tmp_path, Config(save_every_steps=2))
    assert host.states == [(2, 0), (3, 0), (4, 1), (6, 1), (8, 2), (9, 2)]


def test_validation_and_checkpoints_every_other_epoch_and_at_the_end(tmp_path: Path) -> None:
    _, host = run(tmp_path, Config(epochs=3, save_every_epochs=2, save_every_steps=0, keep_best=-1))
    assert [entry["epoch"] for entry in host.store.kept()] == [2, 3]
    assert host.states == [(6, 1), (9, 2)]
    assert [epoch for _, epoch, metrics in host.lines if "val/right" in metrics] == [2, 3]


def test_the_learning_rate_follows_the_method_step_by_step(tmp_path: Path) -> None:
    config = Config(epochs=2)
    _, host = run(tmp_path, config)
    rates = [metrics["train/lr"] for _, _, metrics in host.lines if "train/lr" in metrics]
    assert rates == [config.lr * (1 - step / 12) for step in range(6)]


def test_hooks_come_in_order_once_a_step_however_many_passes_it_has(tmp_path: Path) -> None:
    class Hooked(Toy):
        def before_step(self, step: int) -> None:
            self.calls.append(f"before {step}")

        def after_step(self, step: int) -> None:
            super().after_step(step)
            self.calls.append(f"after {step}")

    config = dataclasses.replace(SMOOTH, epochs=1, micro_batch=3)
    trainer = Hooked(config)
    run(tmp_path, config, trainer)
    assert trainer.calls[:5] == ["before 0", "loss 3", "loss 3", "loss 2", "after 0"]
    assert len(trainer.calls) == 15


def test_prefetching_changes_nothing(tmp_path: Path) -> None:
    _, plain = run(tmp_path / "plain", Config())
    prepare(7, 1, CPU)
    _, ahead = run(tmp_path / "ahead", Config(), prefetch=True)
    assert ahead.losses() == plain.losses()
    assert kept_digest(ahead) == kept_digest(plain)


def test_batches_that_end_early_are_a_fault_of_the_method(tmp_path: Path) -> None:
    trainer = Toy(Config())
    trainer.steps_per_epoch = 4
    trainer.batches = lambda epoch, start=0: iter([{"x": np.zeros((8, 1, 8, 8), np.float32), "y": np.zeros((8, 2), np.float32)}])  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="ended 3 batches short of steps_per_epoch"):
        run(tmp_path, Config(), trainer)


# --- what is written ----------------------------------------------------------------------------------------------------------------------


def test_a_kept_checkpoint_holds_the_weights_and_the_validation_scores(tmp_path: Path) -> None:
    trainer = Toy(Config(), 7)
    _, host = run(tmp_path, Config(), trainer)
    last = host.store.kept()[-1]
    assert (last["name"], last["step"], last["info"]["made_with"]["precision"]) == ("epoch-0003", 9, "fp32")
    weights = load_file(host.store.file("epoch-0003", "safetensors"))
    assert {name: (value.dtype, value.shape) for name, value in weights.items()} == {
        name: (value.dtype, value.shape) for name, value in trainer.module.state_dict().items()
    }
    assert all(torch.equal(weights[name], value) for name, value in trainer.module.state_dict().items())
    # The model trains in channels_last; what is handed on is contiguous.
    assert not trainer.module.state_dict()["3.weight"].is_contiguous()
    table = pq.read_table(host.store.file("epoch-0003", "val.parquet"))
    assert table.column("image").to_pylist() == [f"image{index}" for index in range(6)]
    logits = np.stack([table.column(f"logit/{name}").to_numpy() for name in ("a", "b")], axis=1)
    assert np.array_equal(logits, trainer.predict(rows()).logits)


def test_the_same_job_gives_the_same_bytes_after_another_one(tmp_path: Path) -> None:
    def job(name: str) -> list[bytes]:
        prepare(7, 1, CPU)
        _, host = run(tmp_path / name, Config())
        files = sorted(path for path in (tmp_path / name).iterdir() if path.name.startswith("epoch"))
        return [path.read_bytes() for path in files] + [json.dumps(host.lines).encode()]

    first = job("first")
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(False)
    prepare(3, 2, CPU)
    run(tmp_path / "other", Config(precision="bf16", lr=0.3), Toy(Config(lr=0.3), 3))
    assert job("second") == first


def test_tied_and_strided_weights_are_written_whole(tmp_path: Path) -> None:
    from trainers.states import write_weights

    module = nn.Module()
    module.one = nn.Linear(3, 3)
    module.two = nn.Linear(3, 3)
    module.two.weight = module.one.weight
    module.register_buffer("part", torch.arange(12.0).reshape(3, 4)[:, 1:3])
    write_weights(module, tmp_path / "a")
    read = load_file(tmp_path / "a")
    module.load_state_dict(read, strict=True)
    assert torch.equal(read["two.weight"], read["one.weight"])
    assert torch.equal(read["part"], torch.tensor([[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]))


# --- divergence ---------------------------------------------------------------------------------------------------------------------------


class Spoilt(Toy):
    """A toy whose batch of one step holds a value that is not finite."""

    spoilt_step, value = 4, math.nan

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        for index, batch in enumerate(super().batches(epoch, start), start=epoch * self.steps_per_epoch + start):
            if index == self.spoilt_step:
                batch["x"][0, 0, 0, 0] = self.value
            yield batch


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_reaches_no_file(tmp_path: Path, value: float) -> None:
    config = Config(save_every_steps=1)
    trainer = Spoilt(config, 7)
    trainer.value = value
    host = FolderHost(tmp_path)
    with pytest.raises(Diverged, match=r"step 4: the loss is nan \(lr 0.0388889\)") as caught:
        run(tmp_path, config, trainer, host)
    assert caught.value.failure == "DIVERGED"
    assert host.states[-1] == (4, 1)
    for path in tmp_path.glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(value.isfinite().all() for value in state["module"].values())
    assert all(value.isfinite().all() for value in load_file(host.store.file("epoch-0001", "safetensors")).values())


def test_gradients_that_are_not_finite_stop_the_run_when_they_are_clipped(tmp_path: Path) -> None:
    class Steep(Toy):
        def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            out = super().loss(batch)
            zero = self.head.bias.sum() * 0.0  # type: ignore[union-attr, operator]
            return out | {"loss": out["loss"] + zero.sqrt()}  # The square root is 0 and its slope infinite.

    with pytest.raises(Diverged, match="step 0: the norm of the gradients is nan"):
        run(tmp_path, Config(grad_clip=1.0), Steep(Config()))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Poisoned(Toy):
        def after_step(self, step: int) -> None:
            if step == 1:
                self.module.get_buffer("1.running_var")[0] = math.nan

    host = FolderHost(tmp_path)
    with pytest.raises(Diverged, match=r"step 2: '1.running_var' holds values that are not finite"):
        run(tmp_path, Config(save_every_steps=2), Poisoned(Config()), host)
    assert host.states == []


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    config = dataclasses.replace(SMOOTH, epochs=1, grad_clip=0.01)
    trainer = Toy(config, 7)
    _, host = run(tmp_path, config, trainer)
    assert all(metrics["train/grad_norm"] > 0.01 for _, _, metrics in host.lines if "train/grad_norm" in metrics)
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in trainer.module.parameters() if p.grad is not None]))
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_a_collapse_passes_through(tmp_path: Path) -> None:
    class Flat(Toy):
        def after_epoch(self, epoch: int) -> dict[str, float]:
            raise Collapsed(f"epoch {epoch}: all keys are one")

    with pytest.raises(Collapsed, match="epoch 0"):
        run(tmp_path, Config(), Flat(Config()))


# --- settings -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"precision": "fp16"}, "config.precision: 'fp16' is not known, set one of fp32, bf16"),
        ({"epochs": 0}, "config.epochs: 0 is too small, set it to 1 or more"),
        ({"micro_batch": 3, "bn_images": 2}, r"config.micro_batch: 3 is no multiple of bn_images \(2\), set one that is"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Error, match=sentence):
        run(tmp_path, dataclasses.replace(Config(), **change), Toy(Config()))


def test_a_config_without_the_keys_gets_the_defaults(tmp_path: Path) -> None:
    outcome = fit(Toy(Config()), {"epochs": 1}, FolderHost(tmp_path), device=CPU)
    assert (outcome.finished, outcome.epoch) == (True, 1)


# --- solvers ------------------------------------------------------------------------------------------------------------------------------


class Mean:
    """A `trainers.api.Solver`: the mean target of each label, as a logit."""

    def __init__(self, targets: np.ndarray) -> None:
        self.targets = targets
        self.module: nn.Module = nn.Linear(1, 2, bias=True)

    def solve(self) -> dict[str, float]:
        with torch.no_grad():
            self.module.get_parameter("weight").zero_()
            self.module.get_parameter("bias").copy_(torch.logit(torch.from_numpy(self.targets.mean(0))))
        return {"train/n": float(len(self.targets))}

    def validate(self) -> Scores | None:
        return self.predict(rows())

    def predict(self, rows: Any) -> Scores:
        logits = self.module.get_parameter("bias").detach().numpy()
        return Scores(rows=rows, logits=np.tile(logits, (len(rows), 1)), labels=("a", "b"))


def test_a_solver_is_fitted_once_and_kept(tmp_path: Path) -> None:
    solver = Mean(Toy(Config()).targets)
    assert isinstance(solver, Solver)
    host = FolderHost(tmp_path)
    outcome = fit(solver, Config(), host, device=CPU, measure=measure)
    assert (outcome.finished, outcome.step, outcome.epoch) == (True, 1, 1)
    assert set(outcome.metrics) == {"train/n", "val/right"}
    assert [entry["name"] for entry in host.store.kept()] == ["epoch-0001"]
    assert host.states == []


def test_a_solver_without_a_finite_solution_diverged(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="'bias' holds values that are not finite"):
        fit(Mean(np.ones((4, 2), np.float32)), Config(), FolderHost(tmp_path), device=CPU)


def test_a_digest_tells_weights_apart() -> None:
    one, two = nn.Linear(2, 2), nn.Linear(2, 2)
    assert weights_digest(one) != weights_digest(two)
    two.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(two)
