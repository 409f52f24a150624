"""Pictures: what a file holds, when the loop asks for them, and that nothing of a run depends on them."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.trainers.toy import CPU, Config, FolderHost, Toy, measure, rows, weights_digest
from trainers.errors import Error
from trainers.loop import fit, prepare
from trainers.pictures import LARGEST_SIDE, MOST, SHOWN, drawn, shown


class Drawing(Toy):
    """Shows what its network makes of images, in a mode and with random numbers that training would notice."""

    def __init__(self, config: Config, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.asked: list[int] = []

    def pictures(self, epoch: int) -> Mapping[str, np.ndarray]:
        self.asked.append(epoch)
        assert not self.module.training and not torch.is_grad_enabled()
        noise = torch.rand(3, 8, 8).numpy() + np.random.random((3, 8, 8)) + random.random()
        assert isinstance(self.module, nn.Sequential)
        seen = self.module[:3](torch.from_numpy(self.images[:1]))[0, :3].numpy()
        return {"map": (np.abs(seen) * 60 + noise).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)}


def train(folder: Path, config: Config, trainer: Toy | None = None, stop_after: int | None = None) -> tuple[Toy, FolderHost]:
    """Train a toy, or the part of it that is left, and stop after so many steps of this run."""
    folder.mkdir(exist_ok=True)
    prepare(7, 1, CPU)
    trainer, host = trainer or Drawing(config, 7), FolderHost(folder / "checkpoints")
    if stop_after is not None:
        host.should_stop = lambda: len(host.losses()) >= stop_after
    fit(trainer, config, host, device=CPU, measure=measure)  # pyright: ignore[reportArgumentType]
    return trainer, host


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "pictures").glob("*"))}


@pytest.mark.parametrize(("every", "saved", "asked"), [(0, 1, []), (1, 1, [1, 2, 3]), (2, 3, [2, 3]), (5, 2, [3])])
def test_the_loop_asks_at_its_epochs_and_after_the_last(tmp_path: Path, every: int, saved: int, asked: list[int]) -> None:
    config = Config(pictures_every_epochs=every, save_every_epochs=saved)
    trainer, _ = train(tmp_path, config)
    assert isinstance(trainer, Drawing) and trainer.asked == asked
    assert list(files(tmp_path)) == [f"map-epoch-{epoch:04d}.png" for epoch in asked]


def test_no_weight_buffer_or_loss_depends_on_them(tmp_path: Path) -> None:
    plain, with_pictures = (train(tmp_path / f"{every}", Config(pictures_every_epochs=every)) for every in (0, 1))
    assert with_pictures[1].losses() == plain[1].losses() and len(plain[1].losses()) == 9
    # Running statistics of BatchNorm and the slow copy included.
    assert weights_digest(with_pictures[0].module) == weights_digest(plain[0].module)
    assert torch.equal(with_pictures[0].slow, plain[0].slow)


@pytest.mark.parametrize("stop_after", [2, 3, 4, 6])
def test_a_resumed_run_has_the_pictures_of_an_undisturbed_one(tmp_path: Path, stop_after: int) -> None:
    config = Config(pictures_every_epochs=1, save_every_steps=1)
    train(tmp_path / "whole", config)
    train(tmp_path / "parts", config, stop_after=stop_after)
    train(tmp_path / "parts", config)
    assert files(tmp_path / "parts") == files(tmp_path / "whole") and len(files(tmp_path / "whole")) == 3


def test_a_method_without_pictures_is_not_asked(tmp_path: Path) -> None:
    train(tmp_path, Config(pictures_every_epochs=1), Toy(Config(pictures_every_epochs=1), 7))
    assert files(tmp_path) == {}


def test_the_config_key_has_a_least_value(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"config\.pictures_every_epochs: -1 is too small, set it to 0 or more"):
        train(tmp_path, Config(pictures_every_epochs=-1))


def test_a_file_holds_the_pixels_in_their_order_and_no_time() -> None:
    color = np.zeros((4, 6, 3), np.uint8)
    color[..., 0], color[1, :, 1], color[:, 2, 2] = 200, 100, 50
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
    first, again = (drawn(nn.Linear(1, 1), lambda: {"color": color, "grey": grey}) for _ in range(2))
    assert first == again
    for name, pixels in (("color", color), ("grey", grey)):
        with Image.open(io.BytesIO(first[name])) as image:
            assert np.array_equal(np.asarray(image), pixels)
            assert image.info == {}


def test_the_mode_and_the_random_numbers_are_as_they_were() -> None:
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout())
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    drawn(module, lambda: {"x": module(torch.rand(1, 2, 4, 4))[0, 0].mul(255).numpy().astype(np.uint8)})
    assert module.training and torch.equal(torch.rand(4), expected)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(ZeroDivisionError):
        drawn(module, lambda: {"x": np.zeros(1 // 0)})
    assert module.training


SQUARE = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"x": SQUARE.astype(np.float32)}, "'x' is float32, and a picture is an array of uint8"),
        ({"x": [[0]]}, "'x' is list, and a picture is an array of uint8"),
        ({"x": np.zeros((2, 2, 4), np.uint8)}, r"'x' has the shape \(2, 2, 4\)"),
        ({"x": np.zeros((0, 2), np.uint8)}, "'x' is 2 x 0 pixels"),
        ({"x": np.zeros((1, LARGEST_SIDE + 1), np.uint8)}, f"a side has 1 to {LARGEST_SIDE}"),
        ({"../x": SQUARE}, "'../x' is no name for one"),
        ({"x-epoch-3": SQUARE}, "no epoch, which is added"),
        ({f"x{i}": SQUARE for i in range(MOST + 1)}, f"{MOST + 1} at once, at most {MOST} are kept"),
    ],
)
def test_what_is_no_picture_is_told_to_the_author_of_the_method(made: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        drawn(nn.Linear(1, 1), lambda: made)


def test_the_images_shown_are_the_first_of_a_split() -> None:
    assert shown(rows(6)).images.tolist() == rows(6).images.tolist()[:SHOWN]
    assert len(shown(rows(2))) == 2


def test_epochs_of_pictures_do_not_depend_on_a_grid_of_saves(tmp_path: Path) -> None:
    config = dataclasses.replace(Config(), pictures_every_epochs=2, save_every_examples=8, keep_best=-1)
    trainer, _ = train(tmp_path, config)
    assert isinstance(trainer, Drawing) and trainer.asked == [2, 3]
