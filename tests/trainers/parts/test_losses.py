"""Losses against naive re-implementations, analytic values and the published numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from trainers.parts.losses import contrast, info_nce, log_odds, masked_bce, masked_cross_entropy, of_one_class, within_top

QUERY = torch.tensor([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0]])
KEY = torch.tensor([[0.8, 0.6, 0, 0], [0.6, 0.8, 0, 0]])
QUEUE = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0], [0.6, 0, 0.8, 0]])


@pytest.mark.parametrize(("temperature", "loss"), [(0.2, 0.932130), (0.07, 1.487581)])
def test_info_nce_gives_the_worked_example(temperature: float, loss: float) -> None:
    assert info_nce(contrast(QUERY, KEY, QUEUE, temperature)).item() == pytest.approx(loss, abs=1e-6)


def test_contrast_puts_the_key_first_and_divides_by_the_temperature() -> None:
    logits = contrast(QUERY, KEY, QUEUE, 0.2)
    expected = torch.tensor([[4.0, 5, 0, 0, 0, -5, 3], [5.0, 3, 4, 0, 0, -3, 1.8]])
    assert torch.allclose(logits, expected, atol=1e-5)


@given(st.integers(1, 6), st.integers(1, 9), st.sampled_from([0.07, 0.2, 1.0]), st.integers(0, 999))
def test_info_nce_equals_a_loop_in_float64(batch: int, size: int, temperature: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (random.normal(size=(n, 8)) for n in (batch, batch, size))]
    expected = []
    for q, k in zip(unit[0], unit[1], strict=True):
        terms = [math.exp(q @ k / temperature)] + [math.exp(q @ other / temperature) for other in unit[2]]
        expected.append(-math.log(terms[0] / sum(terms)))
    query, key, queue = (torch.from_numpy(values).float() for values in unit)
    assert info_nce(contrast(query, key, queue, temperature)).item() == pytest.approx(np.mean(expected), abs=2e-5)


def test_collapsed_directions_give_the_log_of_the_number_of_choices_and_no_hit() -> None:
    same = functional.normalize(torch.ones(5, 16), dim=1)
    logits = contrast(same, same, same[:1].repeat(512, 1), 0.2)
    assert info_nce(logits).item() == pytest.approx(math.log(513), abs=1e-4)
    assert within_top(torch.zeros(5, 513), 1, 5) == (0, 0)


def test_hits_count_the_queries_whose_key_is_among_the_nearest() -> None:
    assert within_top(contrast(QUERY, KEY, QUEUE, 0.2), 1, 5) == (1, 2)


def test_keys_in_bfloat16_are_compared_in_float32() -> None:
    assert contrast(QUERY.bfloat16(), KEY.bfloat16(), QUEUE.bfloat16(), 0.2).dtype == torch.float32


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 999))
def test_masked_bce_equals_a_loop_over_the_known_entries(batch: int, labels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(batch, labels)) * 3
    targets = random.choice([0.0, 1.0, np.nan], size=(batch, labels))
    terms = [
        -math.log(1 / (1 + math.exp(-z))) if y == 1 else -math.log(1 - 1 / (1 + math.exp(-z)))
        for z, y in zip(logits.ravel(), targets.ravel(), strict=True)
        if not np.isnan(y)
    ]
    expected = sum(terms) / len(terms) if terms else 0.0
    found = masked_bce(torch.from_numpy(logits), torch.from_numpy(targets))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_masked_bce_of_undecided_logits_is_log_2_however_few_are_known() -> None:
    targets = torch.full((4, 3), torch.nan)
    targets[0, 0], targets[3, 2] = 1.0, 0.0
    assert masked_bce(torch.zeros(4, 3), targets).item() == pytest.approx(math.log(2))


def test_an_empty_mask_gives_zero_with_a_gradient_of_zero() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = masked_bce(logits, torch.full((4, 3), torch.nan))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros(4, 3))


def test_unknown_entries_get_no_gradient() -> None:
    logits = torch.randn(2, 2, requires_grad=True)
    masked_bce(logits, torch.tensor([[1.0, torch.nan], [torch.nan, 0.0]])).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).tolist() == [[False, True], [True, False]]


@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 999))
def test_masked_cross_entropy_equals_a_loop_over_images_of_one_class(batch: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, right = 3 * random.normal(size=(batch, classes)), random.integers(-2, classes, batch)
    targets = np.zeros((batch, classes), np.float32)
    targets[right == -2] = np.nan
    targets[right >= 0, right[right >= 0]] = 1
    each = [-math.log(math.exp(z[k]) / sum(map(math.exp, z))) for z, k in zip(logits.tolist(), right.tolist(), strict=True) if k >= 0]
    found = masked_cross_entropy(torch.from_numpy(logits).float(), torch.from_numpy(targets))
    assert found.item() == pytest.approx(np.mean(each) if each else 0.0, abs=1e-5)
    assert of_one_class(torch.from_numpy(targets)).tolist() == (right >= 0).tolist()


def test_cross_entropy_of_even_logits_is_the_logarithm_of_the_number_of_classes() -> None:
    assert masked_cross_entropy(torch.zeros(4, 3), torch.eye(4, 3)[[0, 1, 2, 0]]).item() == pytest.approx(math.log(3))


def test_an_image_of_two_classes_or_of_an_unknown_one_moves_nothing() -> None:
    logits = torch.zeros(3, 3, requires_grad=True)
    masked_cross_entropy(logits, torch.tensor([[1.0, 1, 0], [1, torch.nan, 0], [0, 0, 0]])).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


@given(st.integers(2, 6), st.integers(0, 999))
def test_log_odds_are_those_of_the_softmax_and_sigmoids_give_it_back(classes: int, seed: int) -> None:
    logits = torch.from_numpy(4 * np.random.default_rng(seed).normal(size=(5, classes)))
    p = logits.softmax(1)
    found = log_odds(logits)
    assert torch.allclose(found.double(), torch.log(p) - torch.log1p(-p), atol=1e-4)
    assert torch.allclose(found.sigmoid().sum(1), torch.ones(5), atol=1e-5)


def test_log_odds_of_two_classes_are_their_difference_and_stay_finite_far_out() -> None:
    assert log_odds(torch.tensor([[3.0, -1.0]])).tolist() == [[4.0, -4.0]]
    assert log_odds(torch.tensor([[500.0, -500.0, 0.0]])).tolist() == [[500.0, -1000.0, -500.0]]
