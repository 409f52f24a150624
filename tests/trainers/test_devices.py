"""Batches are moved and cut whatever they are made of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.devices import part_of, place, size_of, to_device

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
