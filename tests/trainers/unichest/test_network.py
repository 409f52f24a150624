"""Query networks against torch's own layers; counts, gates and probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.unichest.made_sources import DIVIDE, TINY
from trainers.unichest.config import PRESETS, Config
from trainers.unichest.losses import source_contrast
from trainers.unichest.network import Answers, Network
from trainers.unichest.queries import Attention, QueryNetworks

SHAPE: dict[str, Any] = {"width": 16, "heads": 4, "hidden": 24, "layers": 3, "dropout": 0.0}
CONQUER = {"stage": "conquer", "main_ratio": 1.0, "bias_ratio": 0.0, "moe_ratio": 0.0}


class Plain(nn.Module):
    """One query network as torch writes it, in the names of the release."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.TransformerDecoderLayer(width, heads, hidden, 0.0, batch_first=True) for _ in range(layers))
        self.head = nn.Linear(width, 1)

    def forward(self, prompts: Tensor, memory: Tensor, norm: nn.Module, local: float, overall: float) -> Tensor:
        x = prompts.expand(len(memory), *prompts.shape)
        mean = memory.mean(1, keepdim=True)
        for layer in self.layers:
            y = layer.norm1(x)
            x = x + layer.self_attn(y, y, y)[0]
            y = layer.norm2(x)
            if memory.shape[1] == 1:
                x = x + layer.multihead_attn(y, memory, memory)[0]
            else:
                x = x + local * layer.multihead_attn(y, memory, memory)[0] + overall * layer.multihead_attn(y, mean, mean)[0]
            x = x + layer.linear2(layer.linear1(layer.norm3(x)).relu())
        return self.head(norm(x))[..., 0]


def plain_of(stack: QueryNetworks, index: int) -> Plain:
    """Return one network of a stack as torch writes it."""
    plain = Plain(SHAPE["width"], SHAPE["heads"], SHAPE["hidden"], SHAPE["layers"])
    plain.load_state_dict({name: value[index] for name, value in stack.state_dict().items()}, strict=True)
    return plain


@pytest.mark.parametrize("tokens", [9, 1])
def test_each_network_of_a_stack_is_torchs_decoder(tokens: int) -> None:
    generator = torch.Generator().manual_seed(0)
    stack, norm = QueryNetworks(3, **SHAPE, seed=1), nn.LayerNorm(16)
    with torch.no_grad():
        for value in stack.parameters():
            value.normal_(0.0, 0.3, generator=generator)
    prompts, memory = torch.randn((5, 16), generator=generator), torch.randn((4, tokens, 16), generator=generator)
    found = stack(prompts, memory, norm, local=1.0, overall=0.4)
    assert found.shape == (3, 4, 5)
    for index in range(3):
        expected = plain_of(stack, index)(prompts, memory, norm, 1.0, 0.4)
        assert torch.allclose(found[index], expected, atol=1e-4)


def test_one_key_is_attended_to_alike_by_every_query() -> None:
    attention = Attention(2, 16, 4, 0.0).eval()
    with torch.no_grad():
        for value in attention.parameters():
            value.normal_(0.0, 0.3)
    memory = torch.randn(3, 1, 16)
    full = attention(torch.randn(2, 3, 5, 16), memory)
    assert torch.allclose(full, attention.of_one(memory, 5), atol=1e-5)
    assert torch.allclose(full, full[:, :, :1].expand_as(full), atol=1e-5)


def test_where_a_prompt_looks_is_the_softmax_over_tokens() -> None:
    stack = QueryNetworks(1, **SHAPE, seed=1)
    prompts, memory = torch.randn(5, 16), torch.randn(4, 9, 16)
    looks = stack.attention(prompts, memory, local=1.0, overall=0.4)
    assert looks.shape == (1, 4, 5, 9)
    assert torch.allclose(looks.sum(-1), torch.ones(1, 4, 5), atol=1e-5)
    # One image by itself looks where it looks among others.
    assert torch.allclose(stack.attention(prompts, memory[2:3], local=1.0, overall=0.4)[0, 0], looks[0, 2], atol=1e-5)


def test_an_expert_starts_the_same_however_many_there_are() -> None:
    three, five = QueryNetworks(3, **SHAPE, seed=7), QueryNetworks(5, **SHAPE, seed=7)
    for name, value in three.state_dict().items():
        assert torch.equal(value, five.state_dict()[name][:3]), name
    weights = three.state_dict()["layers.0.linear1.weight"]
    assert not torch.equal(weights[0], weights[1])
    assert float(weights.std()) == pytest.approx(0.02, rel=0.1)


def test_the_published_network_has_the_published_number_of_parameters() -> None:
    values = {key: value for key, (value, _) in PRESETS["release"].items()}
    network = Network(replace(Config(**values), px=64), seed=0, backbone_seed=0)
    one = sum(value.numel() for value in network.queries["main"].layers.parameters())  # type: ignore[union-attr]
    fc = 2048 * 1000 + 1000
    encoder = sum(value.numel() for part in (network.backbone, network.projection) for value in part.parameters())
    assert one == 25_216_000
    # The release carries a fifth decoder, a scale and ImageNet's classifier, which nobody uses.
    assert sum(value.numel() for value in network.queries.parameters()) + one + 1 == 126_087_048
    assert encoder + fc == 31_327_016


@pytest.mark.parametrize(("arch", "px"), [("slim", 64), ("slim_vit", 64), ("slim_swin", 64), ("densenet121", 64)])
def test_any_network_becomes_tokens(arch: str, px: int) -> None:
    network = Network(replace(TINY, arch=arch, px=px), seed=0, backbone_seed=0).eval()
    views = torch.randint(0, 256, (2, 1, px, px), dtype=torch.uint8)
    with torch.no_grad():
        tokens = network.tokens(network.pixels(views))
    assert tokens.dim() == 3 and tokens.shape[::2] == (2, 32) and tokens.shape[1] == {"slim_vit": 64, "slim_swin": 16}.get(arch, 4)


def test_the_release_reads_a_densenet_before_its_last_activation() -> None:
    networks = [
        Network(replace(TINY, arch="densenet121", px=64, last_activation=last), seed=0, backbone_seed=0).eval() for last in (True, False)
    ]
    pixels = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        after, before = (network.backbone.forward_features(pixels) for network in networks)  # type: ignore[operator]
    assert float(before.min()) < 0
    assert torch.allclose(after, before.relu(), atol=1e-6)
    with pytest.raises(ValueError, match="last_activation: only networks that end in a norm"):
        Network(replace(TINY, arch="slim_vit", px=64, last_activation=False), seed=0, backbone_seed=0)


def answers(main_ratio: float, shift: float = 0.0) -> Answers:
    generator = torch.Generator().manual_seed(1)
    return Answers(
        main=shift + torch.randn((4, 3), generator=generator),
        experts=shift + torch.randn((3, 4, 3), generator=generator),
        gate=torch.randn((4, 3), generator=generator).softmax(1),
        main_ratio=main_ratio,
        bias_ratio=1 - main_ratio,
    )


def test_probabilities_are_mixed_and_logits_say_the_same() -> None:
    found = answers(0.5)
    assert found.experts is not None
    by_hand = 0.5 * found.main.sigmoid()
    for expert in range(3):
        by_hand = by_hand + 0.5 * found.gate[:, expert, None] * found.experts[expert].sigmoid()
    assert torch.allclose(found.probabilities, by_hand, atol=1e-6)
    assert torch.allclose(found.logits.sigmoid(), by_hand, atol=1e-6)
    alone = answers(1.0)
    assert torch.equal(alone.logits, alone.main) and torch.allclose(alone.probabilities, alone.main.sigmoid())


def test_scores_far_from_nought_are_not_all_tied() -> None:
    far = answers(0.5, shift=60.0)
    assert len(far.logits.unique()) == 12 and bool(torch.isfinite(far.logits).all())
    assert bool((far.probabilities > 1 - 1e-6).all())


def test_the_gate_is_a_softmax_or_equal() -> None:
    memory = torch.randn(5, 7, 32)
    learned, equal = (
        Network(replace(DIVIDE, gate=gate, moe_ratio=0.0), seed=0, backbone_seed=0).weigh(memory) for gate in ("learned", "equal")
    )
    assert torch.allclose(learned.sum(1), torch.ones(5)) and not torch.allclose(learned, equal)
    assert torch.allclose(equal, torch.full((5, 3), 1 / 3))


def test_a_projection_without_bias_lets_a_gate_learn_from_its_first_step() -> None:
    memory, sources = torch.randn((24, 7, 32), generator=torch.Generator().manual_seed(4)), torch.arange(24) % 3
    memory += torch.randn((3, 1, 32), generator=torch.Generator().manual_seed(5))[sources]
    steepness: dict[str, float] = {}
    weights: dict[str, Tensor] = {}
    for start in ("drawn", "zero"):
        network = Network(replace(DIVIDE, projection_bias=start), seed=0, backbone_seed=0)
        source_contrast(network.project(network.weigh(memory)), sources, form="samples").backward()
        gate = network.queries["gate"].weight
        assert isinstance(gate, Tensor) and gate.grad is not None
        steepness[start], weights[start] = gate.grad.norm().item(), gate.detach()
    assert torch.equal(weights["drawn"], weights["zero"])
    assert steepness["zero"] > 20 * steepness["drawn"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias_ratio": 0.5, "main_ratio": 0.5}, "bias_ratio: in conquer there are no experts yet"),
        ({"main_ratio": 0.5}, r"bias_ratio: 0.5 \+ 0 is not 1, .* set bias_ratio: 0.5"),
        ({"moe_ratio": 1.0}, "moe_ratio: in conquer there is no gate yet"),
        ({"stage": "divide"}, "bias_ratio: in divide the experts have a share"),
        ({"stage": "divide", "main_ratio": 0.5, "bias_ratio": 0.5, "moe_ratio": 1.0, "gate": "equal"}, "moe_ratio: with gate: equal"),
        ({"heads": 5}, "heads: 32 features cannot be shared by 5 heads: set one of 1, 2, 4, 8, 16"),
        ({"lr": 0.0}, "lr: is 0.0, and must be above 0"),
        ({"batch_size": 1}, "batch_size: is 1, and must be 2 or more"),
        ({"schedule": "released", "lr": 1e-7}, "min_lr: is 1e-06, and the rate falls to it"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_type(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)
