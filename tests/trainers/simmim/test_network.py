"""The network: hidden tokens are really gone, decoders fit their strides, and what decays is what the paper says."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from trainers.errors import Error
from trainers.parts import backbones
from trainers.parts.inputs import Normalizer
from trainers.simmim.masking import Masking
from trainers.simmim.network import MaskedAutoencoder, Rebuilder, groups, strides, token_width


def build(arch: str, px: int, patch: int, channels: int = 1, window: int | None = None) -> MaskedAutoencoder:
    backbone = backbones.build(arch, channels, px, window=window, seed=1)
    token_px, stride = strides(backbone, arch)
    head = Rebuilder(token_width=token_width(backbone), width=backbones.width(backbone), stride=stride, channels=channels, seed=2)
    return MaskedAutoencoder(backbone, head, Normalizer("cxr", channels), Masking.of(px, patch, 0.6, token_px)).eval()


def views(px: int, count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 1, px, px)).astype(np.uint8))


CASES = [("slim_swin", 64, 16, 1), ("slim_swin", 32, 16, 3), ("slim_vit", 64, 16, 1), ("slim_vit", 32, 8, 3)]


@pytest.mark.parametrize(("arch", "px", "patch", "channels"), CASES)
def test_a_reconstruction_is_as_large_as_its_target_and_repeats(arch: str, px: int, patch: int, channels: int) -> None:
    network = build(arch, px, patch, channels)
    hidden = network.masking.drawn(np.arange(2), seed=0, epoch=0)
    with torch.no_grad():
        target, rebuilt = network(views(px), hidden)
        again = build(arch, px, patch, channels)(views(px), hidden)[1]
    assert target.shape == rebuilt.shape == (2, channels, px, px)
    assert torch.equal(rebuilt, again)


@pytest.mark.parametrize(("arch", "px", "patch", "channels"), CASES)
def test_what_is_hidden_cannot_be_seen_and_what_is_not_can(arch: str, px: int, patch: int, channels: int) -> None:
    network = build(arch, px, patch, channels)
    hidden = network.masking.drawn(np.arange(2), seed=0, epoch=0)
    pixels = network.masking.of_pixels(hidden)
    first, second = views(px), views(px, seed=1)
    with torch.no_grad():
        _, rebuilt = network(first, hidden)
        _, other_below = network(torch.where(pixels, second, first), hidden)
        _, other_around = network(torch.where(pixels, first, second), hidden)
    assert torch.equal(rebuilt, other_below)
    assert not torch.allclose(rebuilt, other_around, atol=1e-4)


@pytest.mark.parametrize("arch", ["slim_swin", "slim_vit"])
def test_with_nothing_hidden_features_are_those_of_the_backbone(arch: str) -> None:
    network = build(arch, 64, 16)
    images = views(64)
    with torch.no_grad():
        tokens = network.backbone.get_submodule("patch_embed")(network._normalize(images))
        features = network._encoded(tokens)
        expected = network.backbone.forward_features(network._normalize(images))  # pyright: ignore[reportCallIssue]
    expected = expected[:, 1:].transpose(1, 2).reshape(features.shape) if arch == "slim_vit" else expected.permute(0, 3, 1, 2)
    assert torch.equal(features, expected)


def test_the_published_sizes() -> None:
    """Swin-B at 192 in windows of 6 and at 224 in windows of 7, on the meta device: shapes alone (facts C2, C3)."""
    for px, window, table in ((192, 6, 121), (224, 7, 169)):
        with torch.device("meta"):
            backbone = timm.create_model("swin_base_patch4_window7_224", img_size=px, window_size=window, num_classes=0, in_chans=3)
        assert strides(backbone, "swin_base_patch4_window7_224") == (4, 32)
        assert backbone.get_parameter("layers.0.blocks.0.attn.relative_position_bias_table").shape == (table, 4)
    head = Rebuilder(token_width=128, width=1024, stride=32, channels=3, seed=0)
    assert head.decoder.weight.shape == (32**2 * 3, 1024, 1, 1) and head.mask_token.shape == (1, 1, 128)
    assert 0.015 < Rebuilder(token_width=4096, width=8, stride=2, channels=1, seed=0).mask_token.std().item() < 0.025


def test_windows_are_set_where_there_are_any() -> None:
    assert build("slim_swin", 64, 16, window=2).backbone.get_parameter("layers.0.blocks.0.attn.relative_position_bias_table").shape[0] == 9
    with pytest.raises(Error, match=r"config\.window: 'slim_vit' has no windows of attention"):
        backbones.build("slim_vit", 1, 64, window=4)


def test_a_network_without_tokens_is_refused() -> None:
    with pytest.raises(Error, match=r"config\.arch: 'slim' is no Swin and no ViT of timm"):
        strides(backbones.build("slim", 1, 64), "slim")


@pytest.mark.parametrize("arch", ["slim_swin", "slim_vit"])
def test_matrices_decay_and_scales_positions_and_the_mask_token_do_not(arch: str) -> None:
    network = build(arch, 64, 16)
    decayed, kept = groups(network, 0.1, 0.05)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    names = {id(p): name for name, p in network.named_parameters()}
    assert sorted(names.values()) == sorted(names[id(p)] for group in (decayed, kept) for p in group["params"])  # type: ignore[attr-defined]
    spared = {names[id(p)] for p in kept["params"]}  # type: ignore[attr-defined]
    own = network.backbone.no_weight_decay() if arch == "slim_vit" else {n for n in names.values() if "relative_position_bias_table" in n}  # pyright: ignore[reportCallIssue]
    for name, p in network.named_parameters():
        position = name.removeprefix("backbone.") in own or name in own
        expected = p.ndim <= 1 or name.endswith("bias") or name == "head.mask_token" or position
        assert (name in spared) == expected, name
    assert isinstance(network, nn.Module)
