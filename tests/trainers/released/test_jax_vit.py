"""ViTs of google-research/vision_transformer (ImageNet-21k, AugReg, SAM) are read from their own `.npz`, as timm's reader reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainers.released import made_published as made
from trainers.errors import WeightsError
from trainers.parts import backbones
from trainers.released.converting import Options, convert
from trainers.released.files import ARRAYS, open_weights
from trainers.released.inspecting import inspect
from trainers.weights import fingerprint, load_backbone

ARCH = "vit_tiny_patch16_224"
HEADS = 3


def written(folder: Path, network: nn.Module, *, hidden: bool = False, **others: Any) -> Path:
    path = folder / "ViT-Ti_16.npz"
    arrays: dict[str, Any] = made.jax_vit(network, HEADS, hidden=hidden) | others
    np.savez(path, **arrays)
    return path


def fresh() -> nn.Module:
    return backbones.build(ARCH, 3, None, seed=9)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_file_gives_the_network_that_timms_own_reader_gives(hidden: bool, tmp_path: Path) -> None:
    wanted = made.small(ARCH, px=None)
    path = written(tmp_path, wanted, hidden=hidden)
    network, by_timm = fresh(), fresh()
    report = load_backbone(network, path, ARCH)
    by_timm.load_pretrained(str(path))  # type: ignore[operator]
    assert fingerprint(network) == fingerprint(by_timm) == fingerprint(wanted)
    behind = {"layer in front of the head": 2} if hidden else {}
    assert (report.kind, dict(report.owners), report.missing, report.adapted) == ("plain", {"head": 2, **behind}, (), ())
    opened = open_weights(path)
    assert opened.container == ARRAYS and len(report.loaded) + len(report.dropped) == len(opened.state)


def test_sam_of_another_grid_is_resized_as_every_file_is(tmp_path: Path) -> None:
    path = written(tmp_path, made.small(ARCH, px=None))
    network = backbones.build(ARCH, 3, 64, seed=9)
    assert load_backbone(network, path, ARCH).adapted == ("pos_embed 14x14 -> 4x4 patches (bicubic)",)


def test_inspect_and_convert_read_it(tmp_path: Path) -> None:
    wanted = made.small(ARCH, px=None)
    path = written(tmp_path, wanted)
    found = inspect(path)
    assert (found.kind, found.arch, found.channels, found.container) == ("plain", (ARCH,), 3, ARRAYS)
    done = convert(path, Options(to="timm", keep_head=True))
    again = fresh()
    load_backbone(again, Path(done.out), ARCH)
    assert fingerprint(again) == fingerprint(wanted) and done.dropped == {}


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("Transformer/encoderblock_3/MultiHeadDotProductAttention_1/key/kernel", "blocks.3.attn.qkv.weight"),
        ("Transformer/encoderblock_0/LayerNorm_2/scale", "blocks.0.norm2.weight"),
        ("cls", "cls_token"),
    ],
)
def test_a_missing_array_is_refused_by_its_name_in_the_network(gone: str, said: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = made.jax_vit(made.small(ARCH, px=None), HEADS)
    del arrays[gone]
    np.savez(tmp_path / "w.npz", **arrays)
    network = fresh()
    before = fingerprint(network)
    with pytest.raises(WeightsError, match=rf"keys missing: 1 \({said}\)"):
        load_backbone(network, tmp_path / "w.npz", ARCH)
    assert fingerprint(network) == before


def test_an_array_of_nobody_is_refused_by_its_name(tmp_path: Path) -> None:
    others: Any = {"Transformer/encoderblock_0/Adapter_0/kernel": np.ones((2, 2), np.float32)}
    path = written(tmp_path, made.small(ARCH, px=None), **others)
    with pytest.raises(WeightsError, match=r"keys unexpected: 1 \(Transformer/encoderblock_0/Adapter_0/kernel\)"):
        load_backbone(fresh(), path, ARCH)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"weight": np.zeros(3)}, "with no 'Transformer/encoder_norm/scale'"),
        ({"Transformer/encoder_norm/scale": np.array([1, 2])}, r"an array of int64 \(Transformer/encoder_norm/scale\)"),
        ({"Transformer/encoder_norm/scale": np.array([{}], dtype=object)}, "cannot be read as weights"),
    ],
)
def test_other_archives_of_numpy_are_one_sentence(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(WeightsError, match=said) as found:
        open_weights(tmp_path / "w.npz")
    assert "\n" not in str(found.value) and str(tmp_path / "w.npz") in str(found.value)


def test_a_truncated_file_is_one_sentence_wherever_it_is_cut(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"Transformer/encoder_norm/scale": np.ones(3, np.float32), "cls": np.ones((1, 1, 3), np.float32)}
    np.savez(tmp_path / "whole.npz", **arrays)
    content = (tmp_path / "whole.npz").read_bytes()
    for cut in range(0, len(content), 23):
        (tmp_path / "w.npz").write_bytes(content[:cut])
        with pytest.raises(WeightsError):
            open_weights(tmp_path / "w.npz")
    assert torch.equal(open_weights(tmp_path / "whole.npz").state["norm.weight"], torch.ones(3))
