"""Labels solved together have the solutions that each has alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.parts import logistic
from trainers.parts.logistic_together import fit_together

GRID = (0.1, 1.0, 10.0)


def _problem(n: int, d: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features on scales of their own, and labels some of which are unknown."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) * random.uniform(0.1, 30, d) + random.normal(size=d) * 10
    standard = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    truth = (standard @ random.normal(size=(d, labels)) / np.sqrt(d) + random.logistic(size=(n, labels)) > 0.3).astype(float)
    truth[random.random(truth.shape) < 0.1] = np.nan
    return x, truth


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 70), st.integers(1, 90), st.integers(1, 5), st.integers(0, 9999))
def test_every_label_has_the_solution_it_has_alone(n: int, d: int, labels: int, seed: int) -> None:
    x, truth = _problem(n, d, labels, seed)
    validation = _problem(40, d, labels, seed + 1)
    together = fit_together(x, truth, penalties=GRID, validation=validation)
    alone = logistic.fit(x, truth, penalties=GRID, validation=validation)
    for one, other in zip(together, alone, strict=True):
        assert one.estimable == other.estimable
        # Penalties whose solutions order validation alike may change places by rounding: then both are as good.
        other = other if one.penalty == other.penalty else logistic.fit(x, truth, penalties=(one.penalty,))[alone.index(other)]
        assert np.allclose(x @ one.weight + one.bias, x @ other.weight + other.bias, atol=1e-6)


def test_the_gradient_of_every_column_is_below_the_stated_norm() -> None:
    x, truth = _problem(300, 20, 6, 3)
    standard = logistic.Standard.of(x)
    design = standard.apply(x)
    for column, one in enumerate(fit_together(x, truth, penalties=(0.5,))):
        known = ~np.isnan(truth[:, column])
        weight = one.weight * standard.spread
        residual = 1 / (1 + np.exp(-(x[known] @ one.weight + one.bias))) - truth[known, column]
        gradient = np.append(design[known].T @ residual + 0.5 * weight, residual.sum())
        assert np.linalg.norm(gradient) <= 2 * logistic.TOLERANCE


def test_a_label_of_one_class_and_a_label_that_nobody_knows_get_their_rate() -> None:
    x, truth = _problem(50, 4, 3, 5)
    truth[:, 1], truth[:, 2] = 1.0, np.nan
    together, alone = fit_together(x, truth, penalties=(1.0,)), logistic.fit(x, truth, penalties=(1.0,))
    assert [one.estimable for one in together] == [True, False, False]
    assert [one.bias for one in together[1:]] == [one.bias for one in alone[1:]]
    assert not any(one.weight.any() for one in together[1:])


def test_no_label_that_can_be_fitted_is_no_error() -> None:
    x, truth = _problem(50, 4, 2, 5)
    assert not any(one.estimable for one in fit_together(x, np.ones_like(truth), penalties=(1.0,)))


def test_the_strongest_of_equal_penalties_is_kept() -> None:
    x, _ = _problem(40, 3, 1, 7)
    truth = (x[:, :1] > np.median(x[:, 0])).astype(float)
    assert fit_together(x, truth, penalties=GRID, validation=(x, truth))[0].penalty == max(GRID)


def test_several_penalties_need_validation_and_none_is_zero() -> None:
    x, truth = _problem(40, 3, 1, 7)
    with pytest.raises(ValueError, match="validation"):
        fit_together(x, truth, penalties=GRID)
    with pytest.raises(ValueError, match="above 0"):
        fit_together(x, truth, penalties=(0.0,))
