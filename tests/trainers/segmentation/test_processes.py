"""Segmentation on two processes over gloo is the experiment that one process makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from tests.trainers.made_data import MemoryStore, made_rows
from tests.trainers.toy import CPU, FolderHost
from tests.trainers.two_processes import together
from trainers.api import Setup
from trainers.data.access import Access
from trainers.loop import fit, prepare
from trainers.parts.overlaps import measure
from trainers.segmentation import train
from trainers.segmentation.config import Config

PX = 64
TINY = Config(
    arch="slim", channels=1, px=PX, width=16, epochs=2, batch_size=16, bn_images=4, drop_path=0.0, lr=1e-2, optimizer="sgd", grad_clip=0.0
)
CASES = {
    "half each": TINY,
    "a third and two thirds": replace(TINY, batch_size=12, loss="dice"),
    "some not annotated": replace(TINY, epochs=1),
}
#: Of the largest entry: sums in another order, after the first step and after the last, which BatchNorm over few values blows up.
FIRST, LAST = 2e-5, 3e-2


class Discs:
    """Masks in memory: a disc an image, beside it its neighbour, not annotated in every third image where `gaps`."""

    structures: tuple[str, ...] = ("disc", "ring")

    def __init__(self, count: int, *, gaps: bool) -> None:
        self.px, self._gaps = PX, gaps
        y, x = np.mgrid[:PX, :PX]
        away = [np.hypot(y - 20 - at % 20, x - 15 - at % 30) for at in range(count)]
        self.masks = np.stack([np.stack([one < 10, (one > 12) & (one < 18)]) for one in away]).astype(np.uint8) * 255

    def mask(self, position: int) -> np.ndarray:
        return self.masks[position]

    def known(self, position: int) -> np.ndarray:
        return np.array([True, not (self._gaps and position % 3 == 0)])

    def full(self, position: int) -> Mapping[str, np.ndarray]:
        return {name: mask // 255 for name, mask in zip(self.structures, self.masks[position], strict=True)}


def made(*, gaps: bool) -> Access:
    """Return 48 training images and 8 to validate on, of discs that are brighter than what is around them."""
    rows, discs = made_rows(56), Discs(56, gaps=gaps)
    noise = np.random.default_rng(0).integers(0, 90, (56, PX, PX))
    images = (noise + 60 + 90 * (discs.masks[:, 0] > 0)).astype(np.uint8)
    bounds = {"train": np.arange(48), "val": np.arange(48, 56)}
    return Access(
        card="discs",
        label_names=Discs.structures,
        rows_of=lambda split: rows.take(bounds[split]) if split in bounds else None,
        store=lambda size: MemoryStore(images, [(PX, PX)] * 56),
        is_open=lambda split: True,
        masks=lambda px, how: discs,
    )


def run(folder: Path, config: Config, gaps: bool) -> None:
    """Train in a folder, alone or as a member of the group, and write what this process saw."""
    prepare(3, 1, CPU)
    setup = Setup(config=config, seed=3, data=made(gaps=gaps), device=CPU, labels=Discs.structures)
    method = train.build(setup)
    for part in method.module.modules():
        if isinstance(part, nn.Dropout2d):
            # Dropout on another process's images is other dropout.
            part.p = 0.0
    host = FolderHost(folder / "checkpoints")
    gradients: dict[str, Tensor] = {}
    log = host.log

    def logged(step: int, epoch: int, metrics: Mapping[str, float]) -> None:
        log(step, epoch, metrics)
        if step == 1 and not gradients:
            gradients.update({name: p.grad.clone() for name, p in method.module.named_parameters() if p.grad is not None})

    host.log = logged  # type: ignore[method-assign]
    fit(method, config, host, device=CPU, measure=lambda found: measure(found, prefix="val"))  # pyright: ignore[reportArgumentType]
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    seen = {"gradients": gradients, "module": method.module.state_dict(), "lines": [values for _, _, values in host.lines]}
    torch.save(seen, folder / f"rank{rank}.pt")


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float) -> None:
    """Compare tensor by tensor, against the largest entry of each, or 0.1."""
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        scale = max(float(value.double().abs().max()), 0.1)
        assert float((ours[name].double() - value.double()).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("case", CASES)
def test_two_processes_log_and_export_what_one_does(tmp_path: Path, case: str) -> None:
    config, gaps = CASES[case], case == "some not annotated"
    (tmp_path / "one").mkdir()
    run(tmp_path / "one", config, gaps)
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    first, second = together(run, tmp_path / "two", config, gaps)
    # The loss is of the whole batch, on either process: not the mean of two losses of its halves.
    assert first["lines"][0]["train/loss"] == pytest.approx(one["lines"][0]["train/loss"], rel=FIRST)
    assert_close(first["gradients"], one["gradients"], FIRST)
    for mine, theirs in zip(first["lines"], one["lines"], strict=True):
        assert mine == pytest.approx(theirs, rel=0.02, abs=0.02)
    assert any("val/dice" in line for line in first["lines"]) and not second["lines"]
    assert_close(first["module"], one["module"], LAST)
    assert all(torch.equal(first["module"][name], value) for name, value in second["module"].items())
