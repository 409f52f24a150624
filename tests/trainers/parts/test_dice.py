"""The Dice loss against loops and values known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trainers.parts.dice import mask_loss


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def naive(logits: np.ndarray, targets: np.ndarray, known: np.ndarray, kind: str) -> float:
    losses, entropies = [], []
    for column in range(logits.shape[1]):
        both = p_sum = y_sum = 0.0
        for image in np.flatnonzero(known[:, column]):
            entropy = 0.0
            for x, y in zip(logits[image, column].ravel(), targets[image, column].ravel(), strict=True):
                p = sigmoid(float(x))
                both, p_sum, y_sum = both + p * float(y), p_sum + p, y_sum + float(y)
                entropy -= float(y) * math.log(p) + (1 - float(y)) * math.log(1 - p)
            entropies.append(entropy / logits[image, column].size)
        if known[:, column].any():
            losses.append(1 - (2 * both + 1) / (p_sum + y_sum + 1))
    dice = sum(losses) / len(losses)
    return dice if kind == "dice" else dice + sum(entropies) / len(entropies)


@pytest.mark.parametrize("kind", ["dice", "dice_bce"])
@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_that_of_loops(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, targets = random.normal(0, 2, (3, 2, 4, 5)), random.random((3, 2, 4, 5))
    known = np.array([[True, True], [True, seed != 1], [False, seed == 0]])
    loss = mask_loss(torch.from_numpy(logits), torch.from_numpy(targets), torch.from_numpy(known), kind)  # pyright: ignore[reportArgumentType]
    assert loss.item() == pytest.approx(naive(logits, targets, known, kind), rel=1e-5)


def of(logit: float, target: float, kind: str = "dice", size: int = 4) -> float:
    shape = (2, 1, size, size)
    known = torch.ones(2, 1, dtype=torch.bool)
    return mask_loss(torch.full(shape, logit), torch.full(shape, target), known, kind).item()  # pyright: ignore[reportArgumentType]


def test_values_known_beforehand() -> None:
    # All right, all wrong, and a probability of a half everywhere: 32 pixels.
    assert of(50, 1) == pytest.approx(0, abs=1e-6)
    assert of(-50, 0) == pytest.approx(0, abs=1e-6)
    assert of(-50, 1) == pytest.approx(1 - 1 / 33)
    assert of(0, 1) == pytest.approx(1 - 33 / 49)
    assert of(0, 1, "dice_bce") == pytest.approx(1 - 33 / 49 + math.log(2))


def test_it_is_of_the_batch_and_not_a_mean_over_images() -> None:
    logits = torch.tensor([4.0, -4.0]).view(2, 1, 1, 1).expand(2, 1, 3, 3)
    targets = torch.tensor([1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 3, 3)
    known = torch.ones(2, 1, dtype=torch.bool)
    each = [mask_loss(logits[i : i + 1], targets[i : i + 1], known[i : i + 1], "dice").item() for i in range(2)]
    assert abs(mask_loss(logits, targets, known, "dice").item() - sum(each) / 2) > 0.05


def test_what_is_not_annotated_moves_nothing() -> None:
    logits = torch.zeros(2, 2, 3, 3, requires_grad=True)
    known = torch.tensor([[True, False], [True, False]])
    mask_loss(logits, torch.ones(2, 2, 3, 3), known, "dice_bce").backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].abs().min() > 0 and not logits.grad[:, 1].any()
    nothing = mask_loss(logits, torch.ones(2, 2, 3, 3), torch.zeros(2, 2, dtype=torch.bool), "dice_bce")
    assert nothing.item() == 0
