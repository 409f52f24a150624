"""Pooling is its formulas: written out pixel by pixel, at values that are known, and between the mean and the maximum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainers.parts.pooling import log_mean_exp, pool


def maps_of(scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("r", [0.3, 1.0, 10.0])
def test_log_mean_exp_is_its_formula(r: float) -> None:
    maps = maps_of()
    for image, row in zip(maps.double().numpy(), pool(maps, "lse", r).tolist(), strict=True):
        for one, found in zip(image, row, strict=True):
            total = sum(math.exp(r * float(value)) for value in one.ravel())
            assert found == pytest.approx(math.log(total / one.size) / r, rel=1e-5, abs=1e-6)


def test_log_mean_exp_of_what_is_known() -> None:
    # One pixel of four at a, three at 0: log((exp(r a) + 3) / 4) / r.
    maps = torch.zeros(1, 1, 2, 2)
    maps[0, 0, 1, 0] = math.log(5.0)
    assert pool(maps, "lse", 1.0).item() == pytest.approx(math.log(2.0))
    assert pool(torch.full((1, 1, 3, 3), -7.5), "lse", 10.0).item() == pytest.approx(-7.5)
    # Values whose exponentials are beyond float32.
    assert pool(torch.full((1, 1, 3, 3), 90.0), "lse", 10.0).item() == pytest.approx(90.0)


def test_log_mean_exp_lies_between_mean_and_maximum() -> None:
    maps = maps_of()
    mean, most = pool(maps, "avg"), pool(maps, "max")
    rising = [pool(maps, "lse", r) for r in (1e-3, 0.1, 1.0, 10.0, 1e3)]
    for low, high in zip([mean - 1e-3, *rising], [*rising, most + 1e-5], strict=True):
        assert bool((low <= high + 1e-5).all())
    torch.testing.assert_close(rising[0], mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(rising[-1], most, atol=math.log(24) / 1e3 + 1e-5, rtol=0)
    np.testing.assert_allclose(mean.numpy(), maps.numpy().mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(most.numpy(), maps.numpy().max((2, 3)))


def test_its_gradient_is_a_softmax() -> None:
    maps = maps_of().requires_grad_()
    log_mean_exp(maps, 4.0).sum().backward()
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad, (4.0 * maps.detach()).flatten(2).softmax(2).unflatten(2, (4, 6)))
