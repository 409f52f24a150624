"""Packed: the same classifier from features that are computed once for all draws."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers.made_data import LABELS, MemoryStore, made_images, made_rows
from tests.trainers.made_host import run
from trainers.api import Setup
from trainers.classification import train
from trainers.classification.config import Config
from trainers.data.access import Access, Rows

PROBE = Config(arch="slim", px=32, epochs=3, batch_size=16, lr=0.02, augment="none", freeze="backbone")
SOLVERS = [PROBE, replace(PROBE, solver="sgd"), replace(PROBE, solver="sgd", precision="bf16", optimizer="adam", schedule="constant")]
ROWS = made_rows(160, flaws=True)
IMAGES = made_images(ROWS, 32)
BOUNDS = {"train": (0, 96), "val": (96, 130), "test": (130, 160)}


class Counting(MemoryStore):
    """Counts how often each image is asked for."""

    def __init__(self) -> None:
        super().__init__(IMAGES, [(32, 32)] * len(IMAGES))
        self.asked: list[int] = []

    def image(self, position: int) -> np.ndarray:
        self.asked.append(position)
        return super().image(position)


def _split(split: str) -> Rows:
    return ROWS.take(np.arange(*BOUNDS[split]))


def _access(store: MemoryStore, drawn: Sequence[int], cache: Path | None) -> Access:
    """Open the images with a draw of the training ones."""
    return Access(
        card="made",
        label_names=LABELS,
        rows_of=lambda split: ROWS.take(np.array(drawn)) if split == "train" else _split(split),
        store=lambda size: store,
        is_open=lambda split: True,
        policies={"uncertain": "ignore", "missing": "zeros"},
        parts_of=lambda split: [_split(split)],
        features=None if cache is None else lambda px, exact: cache,
    )


def _logits(config: Config, folder: Path, data: Access) -> np.ndarray:
    _, _, method = run(train, Setup(config=config, seed=1, data=data, device=torch.device("cpu")), folder)
    return method.predict(data.rows("test")).logits


@pytest.mark.parametrize("config", SOLVERS, ids=["lbfgs", "sgd", "sgd-bf16"])
def test_packed_gives_what_one_by_one_gives(tmp_path: Path, config: Config) -> None:
    drawn = list(range(0, 96, 2))
    alone = _logits(config, tmp_path / "alone", _access(Counting(), drawn, None))
    packed = _logits(replace(config, packed=True), tmp_path / "packed", _access(Counting(), drawn, tmp_path / "cache"))
    # In bfloat16 a feature shows which images it was computed beside.
    assert np.allclose(packed, alone, atol=2e-2 if config.precision == "bf16" else 1e-5)
    assert np.ptp(alone[:, 0]) > 0.1


def test_another_draw_and_another_label_set_compute_nothing_again(tmp_path: Path) -> None:
    store = Counting()
    for draw in ([0, 1, 2, 3, 40, 41], range(96)):
        _logits(replace(PROBE, packed=True), tmp_path / str(len(draw)), _access(store, draw, tmp_path / "cache"))
    assert sorted(store.asked) == list(range(160))


def test_another_network_or_normalization_has_features_of_its_own(tmp_path: Path) -> None:
    store = Counting()
    for name, config in {"a": PROBE, "b": replace(PROBE, normalization="half"), "c": replace(PROBE, precision="bf16")}.items():
        _logits(replace(config, packed=True), tmp_path / name, _access(store, range(96), tmp_path / "cache"))
    assert len(store.asked) == 3 * 160


def test_a_stopped_packed_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    config = replace(PROBE, solver="sgd", packed=True)

    def made() -> Setup:
        return Setup(config=config, seed=0, data=_access(Counting(), range(96), tmp_path / "cache"), device=torch.device("cpu"))

    whole, _, _ = run(train, made(), tmp_path / "whole")
    _, outcome, _ = run(train, made(), tmp_path / "cut", stop_after=7)
    assert not outcome.finished
    resumed, _, _ = run(train, made(), tmp_path / "cut")
    assert resumed.digests["epoch-0003"] == whole.digests["epoch-0003"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"freeze": "nothing"}, "set freeze: backbone"), ({"solver": "sgd", "augment": "crop"}, "set augment: none")],
)
def test_what_cannot_be_packed_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(PROBE, packed=True, **changes)
