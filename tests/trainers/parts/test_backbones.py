"""Networks build by name, follow from their seed, and refuse what timm does not know."""

import numpy as np
import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from trainers.data import transforms
from trainers.errors import Error
from trainers.parts import backbones, heads, optimizers
from trainers.parts.inputs import Normalizer
from trainers.weights import fingerprint


@pytest.mark.parametrize(
    ("arch", "px", "features"),
    [
        ("slim", 64, 192),
        ("slim_vit", 32, 96),
        ("slim_vit", 64, 96),
        ("slim_swin", 32, 192),
        ("slim_swin", 64, 192),
        ("resnet18", 64, 512),
        ("tf_efficientnet_lite0", 64, 1280),
        ("mobilenetv3_small_050", 64, 1024),
        ("vit_tiny_patch16_224", 64, 192),
        ("swin_tiny_patch4_window7_224", 64, 768),
    ],
)
def test_a_network_hands_on_as_many_features_as_it_says(arch: str, px: int, features: int) -> None:
    backbone = backbones.build(arch, 1, px).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(2, 1, px, px)).shape == (2, features)
    assert backbones.width(backbone) == features


def test_slim_is_a_resnet_of_seven_tenths_of_a_million_parameters() -> None:
    backbone = backbones.build("slim", 1, 64)
    assert sum(p.numel() for p in backbone.parameters()) == 703_344
    assert [len(getattr(backbone, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("arch", "px", "channels", "parameters"),
    [
        ("slim_vit", 32, 1, 455_520),
        ("slim_vit", 64, 1, 460_128),
        ("slim_vit", 64, 3, 472_416),
        ("slim_swin", 32, 1, 803_315),
        ("slim_swin", 64, 1, 803_635),
        ("slim_swin", 64, 3, 803_827),
    ],
)
def test_the_small_transformers_have_so_many_parameters(arch: str, px: int, channels: int, parameters: int) -> None:
    backbone = backbones.build(arch, channels, px).train()
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    backbone(torch.randn(2, channels, px, px)).square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_the_small_transformers_are_of_64_pixels_where_no_size_is_asked_for() -> None:
    for arch in (backbones.SLIM_VIT, backbones.SLIM_SWIN):
        unsized, sized = backbones.build(arch, 1, None, seed=1), backbones.build(arch, 1, 64, seed=1)
        assert fingerprint(unsized) == fingerprint(sized)


@pytest.mark.parametrize(("arch", "blocks"), [("slim_vit", 4), ("slim_swin", 5)])
def test_rates_fall_block_by_block_in_a_transformer(arch: str, blocks: int) -> None:
    backbone = backbones.build(arch, 1, 64, seed=1)
    optimizer = optimizers.build(backbone, nn.Linear(backbones.width(backbone), 2), name="adamw", lr=1.0, weight_decay=0.1, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: rates[id(p)] for name, p in backbone.named_parameters()}
    by_block = dict.fromkeys(rate for name, rate in named.items() if name.endswith("attn.qkv.weight"))
    assert len(by_block) == blocks and list(by_block) == sorted(by_block)
    assert named["patch_embed.proj.weight"] == min(named.values()) < min(by_block)
    assert named["norm.weight"] == max(named.values()) == 0.5


def test_weights_follow_from_the_seed_alone_and_leave_the_global_generator_be() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = fingerprint(backbones.build("slim", 1, 64, seed=1))
    torch.manual_seed(6)
    assert fingerprint(backbones.build("slim", 1, 64, seed=1)) == first
    assert fingerprint(backbones.build("slim", 1, 64, seed=2)) != first
    torch.set_rng_state(state)
    backbones.build("slim", 1, 64, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_architecture_is_refused_with_the_nearest() -> None:
    with pytest.raises(Error, match="timm knows no 'resnet81'; did you mean 'resnet"):
        backbones.build("resnet81", 1, 64)


@pytest.mark.parametrize("arch", ["slim_swin", "swin_tiny_patch4_window7_224"])
def test_a_depth_that_timm_gives_by_itself_is_not_there_unless_asked_for(arch: str) -> None:
    own = [part.drop_prob for part in backbones.build(arch, 1, 56, drop_path=0.1).modules() if isinstance(part, DropPath)]
    assert len(own) > 2 and max(own) == pytest.approx(0.1)
    assert {part.drop_prob for part in backbones.build(arch, 1, 56).modules() if isinstance(part, DropPath)} == {0.0}


def test_drop_path_reaches_the_network_or_is_refused() -> None:
    dropping = [m.drop_prob for m in backbones.build("resnet18", 1, 64, drop_path=0.2).modules() if hasattr(m, "drop_prob")]
    assert max(dropping) == pytest.approx(0.2)
    with pytest.raises(Error, match="no stochastic depth"):
        backbones.build("densenet121", 1, 64, drop_path=0.2)


def test_heads_follow_from_their_seed() -> None:
    assert torch.equal(heads.linear(8, 3, seed=1).weight, heads.linear(8, 3, seed=1).weight)
    assert not heads.linear(8, 3, seed=1).bias.any()
    assert heads.linear(800, 30, seed=1).weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert fingerprint(heads.projection(8, 4, hidden=True, seed=2)) == fingerprint(heads.projection(8, 4, hidden=True, seed=2))
    assert [tuple(p.shape) for p in heads.projection(8, 4, hidden=True, seed=2).parameters()] == [(8, 8), (8,), (4, 8), (4,)]
    assert [tuple(p.shape) for p in heads.projection(8, 4, hidden=False, seed=2).parameters()] == [(4, 8), (4,)]


@pytest.mark.parametrize("name", sorted(transforms.NORMALISATIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_the_device_normalises_as_the_data_layer_does(name: str, channels: int) -> None:
    views = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    found = Normalizer(name, channels)(torch.from_numpy(views)).numpy()
    assert np.allclose(found, transforms.normalize(views, name, channels), atol=2e-6)
