"""Two processes over gloo are the same experiment as one."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from tests.trainers.toy import CPU, Config, FolderHost, Masked, Toy, measure
from trainers.api import Scores
from trainers.devices import Drawn
from trainers.errors import Error
from trainers.loop import fit, prepare

ROOT = Path(__file__).parents[2]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.trainers.toy", "torch._dynamo", "pandas"])
PLAIN = Config(epochs=2, norm="layer", dropout=0.0, optimizer="sgd", save_every_steps=0)
GROUPED = dataclasses.replace(PLAIN, norm="batch", bn_images=2)
CASES = {
    "layernorm": (PLAIN, "plain"),
    "layernorm, accumulated": (dataclasses.replace(PLAIN, micro_batch=3), "plain"),
    "batchnorm in groups": (GROUPED, "plain"),
    "batchnorm in groups, accumulated": (dataclasses.replace(GROUPED, micro_batch=2), "plain"),
    "batchnorm in groups, shared unevenly": (dataclasses.replace(GROUPED, batch_size=6), "plain"),
    "looked at on a grid": (dataclasses.replace(GROUPED, epochs=3, save_every_examples=16, keep_best=-1), "plain"),
    "masked loss": (PLAIN, "masked"),
    "clipped": (dataclasses.replace(PLAIN, grad_clip=0.05), "plain"),
}


class Lazy(Toy):
    """Its images are made by whoever takes them, and it counts how many this process made."""

    made = 0

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        raise AssertionError("several processes take recipes")

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        for batch in super().batches(epoch, start):
            yield {"x": Drawn(len(batch["x"]), partial(self._make, batch["x"])), "y": batch["y"]}

    def _make(self, images: np.ndarray, part: slice) -> Tensor:
        self.made += len(images[part])
        return torch.from_numpy(images[part])


class Drawing(Toy):
    """It counts how often this process was asked for pictures."""

    made = 0

    def pictures(self, epoch: int) -> dict[str, np.ndarray]:
        self.made += 1
        return {"x": torch.rand(4, 4).mul(255).numpy().astype(np.uint8)}


class Torn(Toy):
    """Its second process measures ever better values, the first one the same value always, and each hears what both went by."""

    def __init__(self, config: Config, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.heard: list[float] = []

    def measured(self, scores: Scores) -> dict[str, float]:
        rank = distributed.get_rank() if distributed.is_initialized() else 0
        return {"val/right": 0.5 + 0.1 * rank * len(self.heard)}

    def validated(self, metrics: Mapping[str, float]) -> None:
        self.heard.append(metrics["val/right"])


KINDS = {"plain": Toy, "masked": Masked, "lazy": Lazy, "drawing": Drawing, "torn": Torn}


def train(folder: Path, config: Config, kind: str, stop_after: int = 0) -> None:
    """Train in a folder, alone or as one of the processes of the group, and write what came out: gradients, weights, losses."""
    prepare(7, 1, CPU)
    trainer, host = KINDS[kind](config, 7), FolderHost(folder / "checkpoints")
    if stop_after:
        # One process alone is asked to stop: both must.
        host.should_stop = lambda: bool(host.losses()) and len(host.losses()) >= stop_after
    outcome = fit(trainer, config, host, device=CPU, measure=getattr(trainer, "measured", measure))
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.save(
        {
            "grad": {name: p.grad for name, p in trainer.module.named_parameters()},
            "module": trainer.module.state_dict(),
            "losses": [float.fromhex(loss) for loss in host.losses()],
            "finished": outcome.finished,
            "step": outcome.step,
            "made": getattr(trainer, "made", 0),
            "heard": getattr(trainer, "heard", []),
        },
        folder / f"rank{rank}.pt",
    )


def member(rank: int, folder: Path, config: Config, kind: str, stop_after: int) -> None:
    """Be one of two processes."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        train(folder, config, kind, stop_after)
    except Error as error:
        (folder / f"error{rank}").write_text(str(error))
    finally:
        distributed.destroy_process_group()


def together(folder: Path, config: Config, kind: str = "plain", stop_after: int = 0) -> list[dict[str, object]]:
    """Train with two processes and return what each wrote."""
    folder.mkdir(exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT)):
        members = [SERVER.Process(target=member, args=(rank, folder, config, kind, stop_after)) for rank in range(2)]
        for process in members:
            process.start()
    for process in members:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob("rank*.pt"))]


def gap(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the largest difference over the largest entry."""
    scale = max(float(value.abs().max()) for value in theirs.values())
    return max(float((ours[name] - value).abs().max()) for name, value in theirs.items()) / scale


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_gradients_and_weights_of_one(tmp_path: Path, case: str) -> None:
    config, kind = CASES[case]
    (tmp_path / "one").mkdir()
    train(tmp_path / "one", dataclasses.replace(config, micro_batch=0), kind)
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    first, second = together(tmp_path / "two", config, kind)
    assert gap(first["grad"], one["grad"]) < 1e-5  # type: ignore[arg-type]
    buffers_and_weights = {name: value.double() for name, value in one["module"].items()}
    assert gap({name: value.double() for name, value in first["module"].items()}, buffers_and_weights) < 1e-5  # type: ignore[attr-defined]
    # Both processes hold the same model, running statistics included, to the last bit.
    assert all(torch.equal(first["module"][name], second["module"][name]) for name in first["module"])  # type: ignore[index, attr-defined]
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-5)  # type: ignore[arg-type]
    assert second["losses"] == []  # The first process alone logs and writes.
    if config.bn_images:
        running = [name for name in one["module"] if "running" in name or "num_batches" in name]
        assert len(running) == 6
        for name in running:
            assert torch.allclose(first["module"][name].double(), one["module"][name].double(), rtol=1e-5), name  # type: ignore[index]


def test_processes_stop_together_by_what_the_first_one_measured(tmp_path: Path) -> None:
    first, second = together(tmp_path / "two", dataclasses.replace(GROUPED, epochs=9, patience=2), "torn")
    # The best in the first epoch, and three more that are no better.
    assert first["step"] == second["step"] == 4 * 3
    assert first["heard"] == second["heard"] == [0.5] * 4
    assert first["finished"]
    assert second["finished"]


def test_each_process_makes_the_images_of_its_own_share_alone(tmp_path: Path) -> None:
    config = dataclasses.replace(GROUPED, batch_size=6, micro_batch=2)
    whole, lazy = together(tmp_path / "whole", config), together(tmp_path / "lazy", config, "lazy")
    assert all(torch.equal(lazy[0]["module"][name], value) for name, value in whole[0]["module"].items())  # type: ignore[index, attr-defined]
    # Three groups of two images a step: one for the first process, two for the second.
    steps = lazy[0]["step"]
    assert [one["made"] for one in lazy] == [2 * steps, 4 * steps]  # type: ignore[operator]


def test_the_first_process_alone_is_asked_for_pictures(tmp_path: Path) -> None:
    config = dataclasses.replace(GROUPED, dropout=0.2)
    plain, drawing = together(tmp_path / "plain", config), together(tmp_path / "drawing", with_pictures(config), "drawing")
    assert [one["made"] for one in drawing] == [config.epochs, 0]
    assert all(torch.equal(drawing[0]["module"][name], value) for name, value in plain[0]["module"].items())  # type: ignore[index, attr-defined]


def with_pictures(config: Config) -> Config:
    return dataclasses.replace(config, pictures_every_epochs=1)


def test_two_processes_stop_together_and_resume_exactly(tmp_path: Path) -> None:
    config = dataclasses.replace(GROUPED, dropout=0.2)
    whole = together(tmp_path / "whole", config)
    stopped = together(tmp_path / "parts", config, stop_after=4)
    assert [(one["finished"], one["step"]) for one in stopped] == [(False, 4), (False, 4)]
    resumed = together(tmp_path / "parts", config)
    assert [one["finished"] for one in resumed] == [True, True]
    assert stopped[0]["losses"] + resumed[0]["losses"] == whole[0]["losses"]  # type: ignore[operator]
    assert all(torch.equal(resumed[0]["module"][name], value) for name, value in whole[0]["module"].items())  # type: ignore[index, attr-defined]
    # One process cannot go on with what two left.
    with pytest.raises(Error, match="written with processes 2, and this run has processes 1"):
        stop = together(tmp_path / "again", config, stop_after=2)
        assert not stop[0]["finished"]
        train(tmp_path / "again", config, "plain")


def test_batchnorm_without_groups_is_refused(tmp_path: Path) -> None:
    together(tmp_path, dataclasses.replace(GROUPED, bn_images=0))
    said = [(tmp_path / f"error{rank}").read_text() for rank in range(2)]
    assert all("2 processes would each normalise over their own share: set bn_images" in line for line in said)


def test_a_batch_too_small_to_share_is_refused(tmp_path: Path) -> None:
    together(tmp_path, dataclasses.replace(GROUPED, bn_images=8))
    said = (tmp_path / "error0").read_text()
    assert said.startswith("a batch of 8 images cannot be shared by 2 processes in groups of 8: set a batch_size of at least 16")
