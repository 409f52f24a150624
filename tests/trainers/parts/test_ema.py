"""The slow copy follows its closed form, and only parameters move."""

import pytest
import torch
from torch import nn

from trainers.parts import ema


def _pair() -> tuple[nn.Module, nn.Module]:
    fast = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    return fast, ema.slow_copy(fast)


def test_a_constant_target_is_approached_as_published() -> None:
    fast, slow = _pair()
    for parameter in fast.parameters():
        nn.init.ones_(parameter)
    for parameter in slow.parameters():
        nn.init.zeros_(parameter)
    for expected in (0.001, 0.001999, 0.002997001):
        ema.update(slow, fast, 0.999)
        assert all(p.detach().numpy() == pytest.approx(expected, rel=1e-5) for p in slow.parameters())


def test_a_moving_target_gives_the_weighted_sum_of_its_past() -> None:
    fast, slow = _pair()
    momentum, start = 0.9, [p.clone() for p in slow.parameters()]
    past = []
    for step in range(12):
        for parameter in fast.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(step))
        past.append([p.detach().clone().double() for p in fast.parameters()])
        ema.update(slow, fast, momentum)
    for index, parameter in enumerate(slow.parameters()):
        closed = momentum**12 * start[index].double()
        closed = closed + sum((1 - momentum) * momentum ** (11 - step) * past[step][index] for step in range(12))
        assert torch.allclose(parameter.double(), closed, atol=1e-6)


def test_the_copy_takes_no_gradient_and_its_buffers_are_its_own() -> None:
    fast, slow = _pair()
    fast.train()
    fast(torch.randn(8, 3) + 5)
    before = [b.clone() for b in slow.buffers()]
    ema.update(slow, fast, 0.5)
    assert not any(p.requires_grad for p in slow.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, slow.buffers(), strict=True))
    assert not torch.equal(next(fast.buffers()), next(slow.buffers()))
