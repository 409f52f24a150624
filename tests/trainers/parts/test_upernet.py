"""Decoders: the published one parameter for parameter and sum for sum, and maps of any timm network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainers.errors import Error
from trainers.parts import backbones
from trainers.parts.pyramids import Merged, pyramid_of
from trainers.parts.upernet import BatchNorm, PublishedUPerNet, UPerNet


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_network_has_the_published_shapes_and_counts() -> None:
    with torch.device("meta"):
        backbone = backbones.timm.create_model("swin_base_patch4_window7_224", num_classes=0, drop_path_rate=0.1)
        decoder = PublishedUPerNet((256, 512, 1024, 1024), 1)
    assert count(decoder) == 23_535_361
    assert count(decoder) + count(backbone) == 110_278_585
    names = set(decoder.state_dict())
    assert {f"FPN.smooth_conv.{index}.weight" for index in range(3)} < names
    assert {"PPN.stages.3.1.weight", "PPN.bottleneck.0.weight", "FPN.conv1x1.2.bias", "FPN.conv_fusion.1.running_var", "head.bias"} < names
    assert [decoder.FPN.smooth_conv[index] is decoder.FPN.smooth_conv[0] for index in range(3)] == [True] * 3


def test_published_maps_come_after_merging_and_are_not_normalised() -> None:
    backbone = backbones.build("slim_swin", 1, 64, seed=0).eval()
    pyramid = Merged(backbone, 64)
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    maps = pyramid(images)
    # Strides 4, 8, 16 and 16 of patches of 2 pixels: as 28, 14, 7 and 7 of patches of 4.
    assert [tuple(one.shape[1:]) for one in maps] == [(48, 16, 16), (96, 8, 8), (192, 4, 4), (192, 4, 4)]
    whole = backbone.norm(maps[-1].permute(0, 2, 3, 1)).mean((1, 2))  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(whole, backbone(images))


def naive_published(decoder: PublishedUPerNet, maps: list[torch.Tensor]) -> torch.Tensor:
    """The published decoder once more, from the description of its architecture, with eval statistics of a fresh network."""

    def up(x: torch.Tensor, size: Any) -> torch.Tensor:
        return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)

    def block(x: torch.Tensor, part: Any, at: int, padding: int) -> torch.Tensor:
        x = functional.conv2d(x, part[at].weight, padding=padding)
        return functional.relu(functional.batch_norm(x, part[at + 1].running_mean, part[at + 1].running_var, eps=1e-5))

    last, pooled = maps[3], []
    for bins, stage in zip((1, 2, 4, 6), decoder.PPN.stages, strict=True):
        pooled.append(up(block(functional.adaptive_avg_pool2d(last, bins), stage, 1, 0), last.shape[2:]))
    top = block(torch.cat([last, *pooled], 1), decoder.PPN.bottleneck, 0, 1)
    f = [maps[0]]
    for one, conv in zip((maps[1], maps[2], top), decoder.FPN.conv1x1, strict=True):
        f.append(conv(one))
    shared: Any = decoder.FPN.smooth_conv[0]
    out = [functional.conv2d(up(f[i + 1], f[i].shape[2:]) + f[i], shared.weight, shared.bias, padding=1) for i in range(3)] + [f[3]]
    fused = block(torch.cat([up(one, f[0].shape[2:]) for one in out], 1), decoder.FPN.conv_fusion, 0, 1)
    return functional.conv2d(fused, decoder.head.weight, decoder.head.bias, padding=1)


def test_the_published_sums_are_of_the_maps_as_they_came() -> None:
    torch.manual_seed(0)
    decoder = PublishedUPerNet((16, 24, 32, 32), 2).eval()
    maps = [torch.randn(2, channels, side, side) for channels, side in ((16, 12), (24, 6), (32, 3), (32, 3))]
    torch.testing.assert_close(decoder(maps), naive_published(decoder, maps))


def test_the_standard_path_carries_the_coarsest_map_to_the_finest() -> None:
    torch.manual_seed(0)
    decoder = UPerNet((8, 12, 16, 20), 3, width=8, normed=True).eval()
    maps = [torch.randn(1, channels, side, side) for channels, side in ((8, 16), (12, 8), (16, 4), (20, 2))]
    assert decoder(maps).shape == (1, 3, 16, 16)
    # Where nothing but the smoothed finest level reaches the head, the coarsest map is seen through every sum on the way.
    decoder.fusion.get_parameter("0.weight").data[:, 8:] = 0
    changed = [*maps[:3], maps[3] + 1.0 * torch.randn(1, 20, 2, 2)]
    assert (decoder(maps) - decoder(changed)).abs().max() > 1e-6
    theirs = PublishedUPerNet((8, 12, 16, 16), 3).eval()
    theirs.FPN.conv_fusion.get_parameter("0.weight").data[:, 8:] = 0
    coarse = [maps[0], maps[1], maps[2], torch.randn(1, 16, 2, 2)]
    assert torch.equal(theirs(coarse), theirs([*coarse[:3], torch.randn(1, 16, 2, 2)]))


def test_a_batch_of_one_image_trains_through_the_bin_of_one() -> None:
    torch.manual_seed(0)
    decoder = PublishedUPerNet((8, 12, 16, 16), 1).train()
    maps = [torch.randn(1, channels, side, side) for channels, side in ((8, 12), (12, 6), (16, 3), (16, 3))]
    norm: Any = decoder.PPN.stages[0][2]  # pyright: ignore[reportIndexIssue]
    before = norm.running_mean.clone()
    decoder(maps).sum().backward()
    assert torch.equal(norm.running_mean, before) and norm.weight.grad.abs().sum() >= 0
    plain = nn.BatchNorm2d(4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        plain(torch.randn(1, 4, 1, 1))


def test_with_more_than_one_value_it_is_torchs_batchnorm() -> None:
    ours, torchs = BatchNorm(3), nn.BatchNorm2d(3)
    for shape in ((2, 3, 1, 1), (1, 3, 2, 1), (4, 3, 5, 5)):
        x = torch.randn(shape)
        assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.running_var, torchs.running_var)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("arch", "sides"),
    [
        ("slim", [16, 8, 4, 2]),
        ("slim_swin", [32, 16, 8, 4]),
        ("slim_vit", [32, 16, 8, 4]),
        ("convnext_atto", [16, 8, 4, 2]),
        ("efficientnet_b0", [16, 8, 4, 2]),
    ],
)
def test_any_network_with_intermediate_features_makes_a_pyramid(arch: str, sides: list[int]) -> None:
    backbone = backbones.build(arch, 1, 64, seed=0)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    pyramid = pyramid_of(backbone, arch, 64, merged=False, seed=1)
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in before.items())
    maps = pyramid(torch.zeros(2, 1, 64, 64))
    assert [one.shape[2] for one in maps] == sides
    assert tuple(one.shape[1] for one in maps) == pyramid.channels


def test_what_a_pyramid_adds_is_a_function_of_its_seed() -> None:
    one, other, third = (
        pyramid_of(backbones.build("slim_vit", 1, 64, seed=0), "slim_vit", 64, merged=False, seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not torch.equal(one["finer.1.weight"], third["finer.1.weight"])


def test_networks_without_maps_are_refused() -> None:
    with pytest.raises(Error, match="upernet_published takes the maps of a Swin"):
        Merged(backbones.build("slim", 1, 64), 64)
    with pytest.raises(Error, match="arch: 'mine' hands on no intermediate features"):
        pyramid_of(nn.Sequential(nn.Conv2d(1, 8, 3)), "mine", 64, merged=False, seed=0)
