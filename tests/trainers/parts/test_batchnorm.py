"""BatchNorm over fixed groups is BatchNorm, group by group."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from trainers.parts.batchnorm import Grouped, group_batchnorm, live_batchnorms


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 5, 4, 3, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def by_hand(x: Tensor, group: int, module: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise group by group in float64, and carry the running statistics along (Ioffe and Szegedy 2015, algorithm 1)."""
    assert module.running_mean is not None and module.running_var is not None
    mean, var = module.running_mean.double(), module.running_var.double()
    parts, momentum = [], float(module.momentum or 0.0)
    for start in range(0, len(x), group):
        part = x[start : start + group].double()
        center = part.mean((0, 2, 3))
        spread = ((part - center[:, None, None]) ** 2).mean((0, 2, 3))
        parts.append((part - center[:, None, None]) / (spread[:, None, None] + module.eps).sqrt())
        size = part.numel() / part.shape[1]
        mean = (1 - momentum) * mean + momentum * center
        var = (1 - momentum) * var + momentum * spread * size / (size - 1)
    return torch.cat(parts), mean, var


@pytest.mark.parametrize(("count", "group"), [(8, 2), (8, 4), (8, 8), (8, 16), (7, 3)])
def test_it_equals_a_computation_by_hand(count: int, group: int) -> None:
    net = nn.Sequential(nn.BatchNorm2d(5, momentum=0.3))
    expected, mean, var = by_hand(images(count), group, copy.deepcopy(net[0]))  # type: ignore[arg-type]
    assert group_batchnorm(net, group) == 1
    assert torch.allclose(net(images(count)).double(), expected, atol=1e-5)
    assert torch.allclose(net.get_buffer("0.running_mean").double(), mean, atol=1e-6)
    assert torch.allclose(net.get_buffer("0.running_var").double(), var, atol=1e-5)
    assert int(net.get_buffer("0.num_batches_tracked")) == -(-count // group)


def test_one_group_is_the_plain_module_bit_for_bit() -> None:
    plain = nn.BatchNorm2d(5)
    grouped = copy.deepcopy(plain)
    group_batchnorm(grouped, 8)
    x = images(8).to(memory_format=torch.channels_last)
    assert torch.equal(grouped(x), plain(x))
    assert grouped(x).is_contiguous(memory_format=torch.channels_last)


def test_groups_keep_the_memory_format() -> None:
    grouped = nn.BatchNorm2d(5)
    group_batchnorm(grouped, 2)
    assert grouped(images(8).to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)


def test_eval_mode_is_untouched() -> None:
    plain = nn.BatchNorm2d(5).eval()
    grouped = copy.deepcopy(plain)
    group_batchnorm(grouped, 2)
    assert torch.equal(grouped(images(8)), plain(images(8)))
    assert int(grouped.get_buffer("num_batches_tracked")) == 0


def test_timms_batchnorm_with_an_activation_keeps_it() -> None:
    plain = BatchNormAct2d(5)
    grouped = copy.deepcopy(plain)
    assert group_batchnorm(grouped, 2) == 1
    out = grouped(images(4))
    assert torch.equal(out, torch.cat([plain(images(4)[:2]), plain(images(4)[2:])]))
    assert float(out.detach().min()) == 0.0


def test_conversion_is_in_place_and_changes_no_name() -> None:
    net = nn.Sequential(nn.Conv2d(1, 5, 1), nn.BatchNorm2d(5), nn.Sequential(nn.BatchNorm2d(5)))
    before = dict(net.named_parameters())
    modules, keys = list(net.modules()), list(net.state_dict())
    assert group_batchnorm(net, 2) == 2
    assert all(value is before[name] for name, value in net.named_parameters())
    assert list(net.state_dict()) == keys
    assert all(one is other for one, other in zip(net.modules(), modules, strict=True))
    assert isinstance(net[1], nn.BatchNorm2d)
    assert isinstance(copy.deepcopy(net)[1], Grouped)


def test_what_is_grouped_already_keeps_its_groups() -> None:
    net = nn.Sequential(nn.BatchNorm2d(5), nn.BatchNorm2d(5))
    group_batchnorm(net[0], 2)
    assert group_batchnorm(net, 4) == 1
    assert [part.bn_images for part in net if isinstance(part, Grouped)] == [2, 4]


def test_a_cumulative_average_is_refused() -> None:
    with pytest.raises(ValueError, match="momentum None cannot be grouped"):
        group_batchnorm(nn.BatchNorm2d(5, momentum=None), 2)


def test_live_modules_are_those_in_train_mode() -> None:
    net = nn.Sequential(nn.BatchNorm2d(5), nn.BatchNorm1d(5), nn.LayerNorm(5))
    net[0].eval()
    assert list(live_batchnorms(net)) == [net[1]]
