"""Schedules at the published points and at their ends."""

import pytest
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler

from trainers.parts import schedules


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1), (11, 1), (12, 0.1), (17, 0.1), (18, 0.01), (23, 0.01), (24, 0.001), (34, 0.001)])
def test_milestones_count_epochs_from_zero(epoch: int, factor: float) -> None:
    assert schedules.milestones(epoch, (12, 18, 24)) == pytest.approx(factor)


@pytest.mark.parametrize(("epoch", "rate"), [(0, 1e-4), (5, 9.903926e-5), (10, 9.619398e-5), (19, 8.671613e-5)])
def test_a_quarter_cosine_is_that_of_the_release(epoch: int, rate: float) -> None:
    assert 1e-4 * schedules.cosine(epoch, 20, rate=4) == pytest.approx(rate, rel=1e-6)


def test_cosine_rises_then_falls_to_nothing() -> None:
    values = [schedules.cosine(step, 100, warmup_steps=10) for step in range(101)]
    assert values[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert values[9] == values[10] == 1.0
    assert values[55] == pytest.approx(0.5)
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[100] == pytest.approx(0.0, abs=1e-12)


def test_warmup_moves_at_once_and_stays_at_one() -> None:
    assert [schedules.warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert schedules.warmup(0, 0) == 1.0


def test_momentum_rises_from_start_to_end() -> None:
    values = [schedules.rising_momentum(step, 10, 0.99, 1.0) for step in range(11)]
    assert values[0] == pytest.approx(0.99)
    assert values[5] == pytest.approx(0.995)
    assert values[10] == 1.0
    assert schedules.rising_momentum(7, 10, 0.999, 0.999) == 0.999


@pytest.mark.parametrize(
    ("lr", "warmup_epochs", "loss", "rate"),
    [
        (0.1, 20, 0.16, 8.0099e-4),
        (0.1, 20, 0.3, 1.50099e-3),
        (0.1, 20, 0.69, 3.45097e-3),
        (0.01, 0, 0.16, 9.99998e-3),
        (0.1, 20, 0.0, 1e-6),
    ],
)
def test_the_loss_taken_for_the_epoch_gives_the_released_rates(lr: float, warmup_epochs: int, loss: float, rate: float) -> None:
    factor = schedules.by_epoch(loss, 200, lr=lr, warmup_epochs=warmup_epochs, warmup_lr=1e-6, min_lr=1e-5)
    assert lr * factor == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize(("epochs", "warmup_epochs"), [(30, 0), (30, 5), (8, 3)])
def test_by_epoch_equals_timms_own_scheduler(epochs: int, warmup_epochs: int) -> None:
    """The timm of today, whose cosine over one cycle without a prefix is that of 0.5.4."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = CosineLRScheduler(optimizer, t_initial=epochs, lr_min=1e-5, warmup_t=warmup_epochs, warmup_lr_init=1e-6)
    for epoch in range(epochs + 4):
        theirs.step(epoch)
        ours = 0.1 * schedules.by_epoch(epoch, epochs, lr=0.1, warmup_epochs=warmup_epochs, warmup_lr=1e-6, min_lr=1e-5)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
