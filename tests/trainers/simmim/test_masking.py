"""Masks and the loss over what is hidden: the paper's counts, its toy value, and a naive way to every number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.simmim.masking import Masking, constant_l1, each_l1, masked_l1

#: SimMIM's own: a Swin's tokens of 4 pixels under squares of 32.
PUBLISHED = Masking.of(192, 32, 0.6, 4)


def test_the_published_counts() -> None:
    assert PUBLISHED.facts() == {"squares": 36, "masked": 22, "tokens": 2304, "masked_tokens": 1408}
    hidden = PUBLISHED.drawn(np.arange(5), seed=1, epoch=0)
    assert hidden.shape == (5, 6, 6) and hidden.dtype == torch.bool
    assert hidden.flatten(1).sum(1).tolist() == [22] * 5
    assert PUBLISHED.of_tokens(hidden).flatten(1).sum(1).tolist() == [1408] * 5
    assert PUBLISHED.of_pixels(hidden).flatten(1).sum(1).tolist() == [22 * 32 * 32] * 5
    # 224 with windows of 7, and a ViT's patches of 16.
    assert Masking.of(224, 32, 0.6, 4).facts() == {"squares": 49, "masked": 30, "tokens": 3136, "masked_tokens": 1920}
    assert Masking.of(224, 32, 0.6, 16).facts()["tokens"] == 196


@pytest.mark.parametrize(("ratio", "count"), [(0.6, 22), (0.5, 18), (0.61, 22), (22 / 36 + 1e-9, 23), (0.01, 1), (0.999, 36)])
def test_a_share_is_rounded_up_to_a_whole_square(ratio: float, count: int) -> None:
    assert Masking.of(192, 32, ratio, 4).hidden == count


def test_a_mask_is_a_function_of_seed_epoch_and_image_alone() -> None:
    whole = PUBLISHED.drawn(np.arange(40), seed=3, epoch=2)
    order = np.random.default_rng(0).permutation(40)
    assert torch.equal(PUBLISHED.drawn(order, seed=3, epoch=2), whole[order])
    assert torch.equal(PUBLISHED.drawn(np.array([7]), seed=3, epoch=2), whole[7:8])
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}):
        assert (PUBLISHED.drawn(np.arange(40), **other) != whole).flatten(1).any(1).all()


def test_every_square_is_hidden_as_often_as_any_other() -> None:
    hidden = PUBLISHED.drawn(np.arange(4000), seed=5, epoch=1).flatten(1).double()
    # A hypergeometric draw: sd of a frequency is sqrt(p (1 - p) / n) = 0.0077; pairs have p2 = 22 * 21 / (36 * 35).
    assert (hidden.mean(0) - 22 / 36).abs().max() < 5 * 0.0077
    together = (hidden.T @ hidden / 4000)[~torch.eye(36, dtype=torch.bool)]
    assert (together - 22 * 21 / (36 * 35)).abs().max() < 5 * 0.0078


def test_tokens_and_pixels_are_those_under_a_hidden_square() -> None:
    masking = Masking.of(64, 16, 0.5, 2)
    hidden = masking.drawn(np.arange(3), seed=0, epoch=0)
    tokens, pixels = masking.of_tokens(hidden), masking.of_pixels(hidden)
    assert tokens.shape == (3, 32, 32) and pixels.shape == (3, 1, 64, 64)
    for image in range(3):
        for row in range(64):
            for column in range(64):
                square = bool(hidden[image, row // 16, column // 16])
                assert bool(pixels[image, 0, row, column]) == square == bool(tokens[image, row // 2, column // 2])


def test_the_toy_value() -> None:
    """A black image rebuilt as ones, half of it hidden (facts C10): 1 but for the 1e-5 in the denominator."""
    hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hidden[..., :2] = True
    ours = masked_l1(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), hidden)
    assert ours.item() == pytest.approx(0.9999988, abs=1e-7)
    assert ours.item() == pytest.approx(24 / (8 + 1e-5) / 3, abs=1e-7)


def test_the_loss_is_the_naive_one() -> None:
    random = np.random.default_rng(2)
    target, rebuilt = random.normal(size=(2, 3, 6, 5)), random.normal(size=(2, 3, 6, 5))
    hidden = random.random((2, 1, 6, 5)) < 0.5
    total, count = 0.0, 0
    for image in range(2):
        for row in range(6):
            for column in range(5):
                if hidden[image, 0, row, column]:
                    count += 1
                    total += sum(abs(target[image, c, row, column] - rebuilt[image, c, row, column]) for c in range(3))
    tensors = [torch.from_numpy(value) for value in (target, rebuilt, hidden)]
    assert masked_l1(*tensors).item() == pytest.approx(total / (count + 1e-5) / 3, rel=1e-6)
    assert masked_l1(*tensors).dtype == torch.float32


def test_images_alone_average_to_the_batch_and_what_is_seen_counts_for_nothing() -> None:
    torch.manual_seed(0)
    target, rebuilt = torch.randn(4, 2, 8, 8), torch.randn(4, 2, 8, 8)
    masking = Masking.of(8, 2, 0.4, 1)
    hidden = masking.of_pixels(masking.drawn(np.arange(4), seed=1, epoch=0))
    each = each_l1(target, rebuilt, hidden)
    assert each.mean().item() == pytest.approx(masked_l1(target, rebuilt, hidden).item(), rel=1e-6)
    assert torch.equal(each_l1(target, torch.where(hidden, rebuilt, rebuilt + 100), hidden), each)
    assert masked_l1(target, rebuilt, torch.zeros_like(hidden)).item() == 0.0


def test_a_constant_image_knows_the_mean_of_what_is_seen_or_says_0() -> None:
    target = torch.arange(16.0).reshape(1, 1, 4, 4)
    hidden = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hidden[..., 2:, :] = True
    # Seen: 0 to 7, so 3.5; hidden: 8 to 15.
    assert constant_l1(target, hidden).item() == pytest.approx(sum(range(8, 16)) / 8 - 3.5, rel=1e-5)
    target[..., 2:, :] = 0.25
    assert constant_l1(target, hidden).item() == pytest.approx(0.25, rel=1e-5)
