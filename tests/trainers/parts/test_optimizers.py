"""Which parameters decay, and how fast each moves."""

import pytest
import torch
from torch import nn

from trainers.parts import backbones, optimizers


def _net() -> tuple[nn.Module, nn.Linear]:
    return backbones.build("slim", 1, 32, seed=0), nn.Linear(192, 2)


def _groups(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, float]]:
    return {id(p): {"lr": g["lr"], "decay": g["weight_decay"]} for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_every_parameter_stands_in_one_group_and_norms_and_biases_do_not_decay(name: str, layer_decay: float) -> None:
    backbone, head = _net()
    optimizer = optimizers.build(backbone, head, name=name, lr=0.1, weight_decay=0.05, layer_decay=layer_decay)  # type: ignore[arg-type]
    found = _groups(optimizer)
    parameters = [*backbone.parameters(), *head.parameters()]
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(parameters) == len(found)
    assert all(found[id(p)]["decay"] == (0.05 if p.ndim > 1 else 0.0) for p in parameters)


def test_all_decay_where_the_release_does() -> None:
    backbone, head = _net()
    optimizer = optimizers.build(backbone, head, name="adam", lr=0.1, weight_decay=0.05, decay_norms=True)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.05}


def test_rates_fall_layer_by_layer_from_the_head() -> None:
    backbone, head = _net()
    optimizer = optimizers.build(backbone, head, name="adamw", lr=1.0, weight_decay=0.0, head_lr_factor=3.0, layer_decay=0.5)
    found = _groups(optimizer)
    rates = {name: found[id(p)]["lr"] for name, p in backbone.named_parameters()}
    assert found[id(head.weight)]["lr"] == 3.0
    assert rates["conv1.weight"] < rates["layer1.0.conv1.weight"] < rates["layer4.0.conv1.weight"] == 0.5


def test_what_is_frozen_is_left_out() -> None:
    backbone, head = _net()
    optimizer = optimizers.build(backbone.requires_grad_(False), head, name="adamw", lr=1.0, weight_decay=0.0, layer_decay=0.5)
    assert set(_groups(optimizer)) == {id(p) for p in head.parameters()}


def test_adam_couples_decay_and_adamw_does_not() -> None:
    moved = {}
    for name in ("adam", "adamw"):
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, 2.0)
        optimizer = optimizers.build(nn.Identity(), layer, name=name, lr=0.1, weight_decay=0.5)  # type: ignore[arg-type]
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.step()
        moved[name] = layer.weight.item()
    assert moved["adamw"] == pytest.approx(2.0 * (1 - 0.1 * 0.5))
    assert moved["adam"] == pytest.approx(2.0 - 0.1, abs=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_has_a_momentum_of_nine_tenths_with_or_without_looking_ahead(nesterov: bool) -> None:
    body, head = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    optimizer = optimizers.build(body, head, name="sgd", lr=0.1, weight_decay=0.0, nesterov=nesterov)
    weight, velocity = head.weight.item(), 0.0
    for gradient in (1.0, -0.5, 0.25):
        head.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        velocity = 0.9 * velocity + gradient
        weight -= 0.1 * (gradient + 0.9 * velocity if nesterov else velocity)
        assert head.weight.item() == pytest.approx(weight, abs=1e-6)
