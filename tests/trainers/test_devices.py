"""Batches are moved and cut whatever they are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.devices import part_of, place, size_of, to_device
from trainers.parts import backbones

CPU = torch.device("cpu")


class Pair(NamedTuple):
    x: Any
    y: Any


def test_a_batch_becomes_tensors_and_keeps_its_shape() -> None:
    batch = {
        "views": [np.zeros((4, 3, 2, 2), np.uint8), torch.ones(4)],
        "ids": np.array(["a", "b", "c", "d"]),
        "pair": Pair(1, np.arange(4)),
    }
    moved = to_device(batch, CPU)
    assert isinstance(moved["views"][0], Tensor)
    assert moved["views"][0].dtype == torch.uint8
    assert moved["ids"] is batch["ids"]
    assert isinstance(moved["pair"], Pair)
    assert moved["pair"].x == 1
    assert moved["pair"].y.tolist() == [0, 1, 2, 3]


def test_images_take_the_memory_format_of_the_model() -> None:
    moved = to_device({"x": torch.zeros(2, 3, 4, 5), "y": torch.zeros(2, 3)}, CPU, channels_last=True)
    assert moved["x"].is_contiguous(memory_format=torch.channels_last)
    assert moved["y"].is_contiguous()


def test_a_part_is_cut_from_every_array_as_long_as_the_batch() -> None:
    batch = (torch.arange(6), {"ids": np.array(list("abcdef")), "scale": torch.ones(3), "epoch": 2})
    first, rest = part_of(batch, 2, 4)
    assert first.tolist() == [2, 3]
    assert rest["ids"].tolist() == ["c", "d"]
    assert (len(rest["scale"]), rest["epoch"]) == (3, 2)


def test_the_size_is_that_of_the_first_array() -> None:
    assert size_of({"epoch": 3, "x": [np.zeros((5, 2))]}) == 5
    with pytest.raises(TypeError, match="no tensor or array"):
        size_of({"epoch": 3})


def test_convolutional_nets_are_placed_in_channels_last_and_others_are_not() -> None:
    convolutional = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    weight = convolutional[0].weight
    assert place(convolutional, CPU)
    assert convolutional[0].weight is weight
    assert not convolutional.get_parameter("0.weight").is_contiguous()
    patches = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Flatten(2), nn.Linear(4, 4))
    assert not place(patches, CPU)
    assert patches.get_parameter("0.weight").is_contiguous()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the sequences that the fused kernel is called for."""
    found: list[int] = []
    fused = functional.scaled_dot_product_attention

    def counted(query: Tensor, *others: Any, **more: Any) -> Tensor:
        found.append(query.shape[2])
        return fused(query, *others, **more)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    return found


def test_attention_is_written_out_in_bfloat16_on_a_cpu_and_fused_else(calls: list[int]) -> None:
    network = backbones.build("slim_vit", 1, 64, seed=1)
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        before = network(images)
    assert calls == [65] * 4
    for _ in range(2):
        place(network, CPU)
    assert all(len(part._forward_pre_hooks) == 1 for part in network.modules() if hasattr(part, "fused_attn"))
    with torch.autocast("cpu", torch.bfloat16):
        after = network(images)
        assert calls == [65] * 4
        assert torch.allclose(after, before, atol=0.03 * float(before.detach().abs().max()))
    network(images)
    assert calls == [65] * 8


def test_attention_over_many_patches_stays_fused(calls: list[int]) -> None:
    """Written out, a matrix of 1,025 squared a head would be kept for every block."""
    network = backbones.build("slim_vit", 1, 256, seed=1)
    place(network, CPU)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(torch.zeros(1, 1, 256, 256))
    assert calls == [1025] * 4
