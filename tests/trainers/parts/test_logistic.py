"""The solver finds the one solution, scikit-learn's, to the stated gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from trainers.parts import logistic


def _problem(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, d)) * random.uniform(0.1, 30, d) + random.normal(size=d) * 10
    y = (x @ random.normal(size=d) / np.abs(x).mean() + random.logistic(size=n) > 0).astype(float)
    y[:2] = [0, 1]
    return x, y


def _gradient(x: np.ndarray, y: np.ndarray, w: np.ndarray, penalty: float) -> float:
    residual = 1 / (1 + np.exp(-(x @ w[:-1] + w[-1]))) - y
    return float(np.linalg.norm(np.append(x.T @ residual + penalty * w[:-1], residual.sum())))


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 80), st.integers(1, 90), st.sampled_from([0.01, 1.0, 100.0]), st.integers(0, 9999))
def test_the_gradient_is_below_the_stated_norm_for_any_shape(n: int, d: int, penalty: float, seed: int) -> None:
    x, y = _problem(n, d, seed)
    x = (x - x.mean(0)) / x.std(0)
    w = logistic.solve(x, y, penalty)
    assert _gradient(x, y, w, penalty) <= 1.1 * logistic.TOLERANCE


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_it_is_scikit_learns_solution_on_standardised_features(penalty: float) -> None:
    x, y = _problem(120, 7, 1)
    found = logistic.fit(x, y[:, None], penalties=(penalty,))[0]
    scaler = StandardScaler().fit(x)
    other = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=10_000).fit(scaler.transform(x), y)
    logit = x @ found.weight + found.bias
    assert np.allclose(logit, other.decision_function(scaler.transform(x)), atol=1e-5)


def test_one_label_or_many_packed_give_the_same_bytes() -> None:
    x, y = _problem(60, 5, 2)
    truth = np.stack([y, np.where(np.arange(60) % 3 == 0, np.nan, 1 - y)], axis=1)
    packed = logistic.fit(x, truth, penalties=(1.0,))
    alone = [logistic.fit(x, truth[:, [k]], penalties=(1.0,))[0] for k in range(2)]
    for one, other in zip(packed, alone, strict=True):
        assert one.weight.tobytes() == other.weight.tobytes()
        assert one.bias == other.bias


def test_unknown_rows_are_as_if_they_were_not_there() -> None:
    x, y = _problem(60, 4, 3)
    standard = logistic.Standard.of(x)
    known = np.arange(60) % 4 != 0
    found = logistic.fit(x, np.where(known, y, np.nan)[:, None], penalties=(2.0,))[0]
    w = logistic.solve(standard.apply(x)[known], y[known], 2.0)
    assert np.allclose(found.weight * standard.spread, w[:-1], atol=1e-6)


def test_a_label_with_one_class_gets_its_base_rate_and_is_counted() -> None:
    x, y = _problem(20, 3, 4)
    fits = logistic.fit(x, np.stack([np.zeros(20), y], axis=1), penalties=(1.0,))
    assert (fits[0].weight == 0).all()
    assert fits[0].bias == pytest.approx(np.log(0.5 / 20.5))
    assert logistic.described(fits, ("none", "some")) == {"train/not_estimable": 1.0, "train/penalty/some": 1.0}


def test_validation_chooses_and_of_equals_the_strongest_penalty_wins() -> None:
    x, y = _problem(200, 30, 5)
    train, val = slice(0, 60), slice(60, 200)
    grid = (0.001, 1.0, 1000.0)
    found = logistic.fit(x[train], y[train, None], penalties=grid, validation=(x[val], y[val, None]))[0]
    areas = {}
    for penalty in grid:
        one = logistic.fit(x[train], y[train, None], penalties=(penalty,))[0]
        areas[penalty] = logistic.auroc(y[val], x[val] @ one.weight + one.bias)
    assert areas[found.penalty] == max(areas.values())  # type: ignore[type-var]
    separable = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([[0.0], [0.0], [1.0], [1.0]])
    assert logistic.fit(*separable, penalties=grid, validation=separable)[0].penalty == 1000.0


def test_what_cannot_be_solved_is_refused() -> None:
    x, y = _problem(10, 2, 6)
    with pytest.raises(ValueError, match="above 0"):
        logistic.fit(x, y[:, None], penalties=(0.0,))
    with pytest.raises(ValueError, match="validation"):
        logistic.fit(x, y[:, None], penalties=(1.0, 2.0))


def test_a_feature_that_never_varies_is_harmless() -> None:
    x, y = _problem(40, 3, 7)
    x[:, 1] = 5.0
    found = logistic.fit(x, y[:, None], penalties=(1.0,))[0]
    assert found.weight[1] == 0
    assert np.isfinite(found.weight).all()
