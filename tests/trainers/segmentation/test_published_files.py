"""Checkpoints of BenchmarkTransformersSegmentation start a segmentation whole, or a backbone alone; anything else is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.released import made_published as made_files
from tests.trainers.segmentation.test_segmentation import made, setup_of
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.parts.pyramids import Merged
from trainers.parts.upernet import PublishedUPerNet
from trainers.released.inspecting import inspect
from trainers.segmentation import train
from trainers.segmentation.config import Config
from trainers.weights import fingerprint, load_backbone

__all__ = ["made"]
CONFIG = Config(arch="slim_swin", channels=3, px=64, decoder="upernet_published", epochs=1, batch_size=8, init="published")


def published(folder: Path, structures: int = 1, **changes: Any) -> tuple[Path, nn.Module, nn.Module]:
    """Write `<arch>_<init>_run_<i>.pt` as its engine does, under DataParallel, and return it with its backbone and decoder."""
    backbone = made_files.small("slim_swin")
    decoder = made_files.random(PublishedUPerNet(Merged(backbone, 64).channels, structures), seed=3)
    state: dict[str, Tensor] = {**made_files.prefixed("backbone.", made_files.old_swin(backbone)), **decoder.state_dict(), **changes}
    state = {f"module.{name}": value for name, value in state.items() if value is not None}
    content = {"epoch": 3, "lossMIN": 0.4, "state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.05, "params": []}]}}
    torch.save(content, folder / "upernet_swin_ark_run_0.pt")
    return folder / "upernet_swin_ark_run_0.pt", backbone, decoder


def built(made: Path, path: Path, **changes: Any) -> train.Segmentation:
    config = Config(**{**{name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}, **changes})
    return train.build(setup_of(made, config, weights={"published": path}))


def test_backbone_and_decoder_are_those_of_the_file(made: Path, tmp_path: Path) -> None:
    path, backbone, decoder = published(tmp_path)
    method = built(made, path)
    assert fingerprint(method.module.pyramid.get_submodule("backbone")) == fingerprint(backbone)
    assert fingerprint(method.module.decoder) == fingerprint(decoder)
    assert method.report is not None and method.report.kind == "upernet"
    keys = len(decoder.state_dict())
    assert method.report.owners == {"decoder": keys, "tables that are computed": 6} and method.report.missing == ()


def test_a_head_for_another_number_of_structures_is_left_as_built(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, _, decoder = published(tmp_path, structures=3)
    with caplog.at_level("INFO"):
        method = built(made, path)
    ours, theirs = method.module.decoder.state_dict(), decoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if not name.startswith("head."))
    assert ours["head.weight"].shape[0] == 1
    assert "2 head of another number of structures), 2 left as built" in caplog.text


def test_the_standard_decoder_starts_from_its_backbone_alone(made: Path, tmp_path: Path) -> None:
    path, backbone, _ = published(tmp_path)
    method = built(made, path, decoder="upernet")
    assert fingerprint(method.module.pyramid.get_submodule("backbone")) == fingerprint(backbone)
    other = backbones.build("slim_swin", 3, 64, seed=9)
    assert load_backbone(other, path, "slim_swin").kind == "upernet" and fingerprint(other) == fingerprint(backbone)
    found = inspect(path)
    assert (found.kind, found.arch, found.epoch, found.lr) == ("upernet", ("slim_swin",), 3, 0.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PPN.bottleneck.0.weight": None}, r"keys missing: 1 \(PPN.bottleneck.0.weight\)"),
        ({"FPN.stranger.weight": torch.ones(1)}, r"keys unexpected: 1 \(FPN.stranger.weight\)"),
        ({"FPN.conv1x1.0.bias": torch.ones(3)}, r"of another shape: 1 \(FPN.conv1x1.0.bias"),
        ({"backbone.norm.weight": None}, r"keys missing: 1 \(norm.weight\)"),
        ({"FPN.smooth_conv.1.bias": torch.ones(48)}, r"FPN.smooth_conv.\*.bias is one convolution under several names"),
        ({"stranger.weight": torch.ones(1)}, r"keys unexpected: 1 \(stranger.weight\)"),
    ],
)
def test_anything_else_is_refused_by_its_name(changes: dict[str, Any], said: str, made: Path, tmp_path: Path) -> None:
    path, _, _ = published(tmp_path, **changes)
    with pytest.raises(WeightsError, match=said):
        built(made, path)
