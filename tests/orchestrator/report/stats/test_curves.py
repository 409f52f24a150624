"""What is read off curves, against polynomial fits, another isotonic regression, Fieller's formula and repeated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.isotonic import IsotonicRegression

from orchestrator.report.stats.curves import Chains, area_weights, reach, reached, trend_weights
from orchestrator.report.stats.multireader import crossed

X = np.log([64.0, 128.0, 512.0, 4096.0])


def chains(values: np.ndarray, influence: np.ndarray | None = None) -> Chains:
    """Chains of which the patients say nothing, unless they do."""
    return Chains(values=values, influence=np.zeros((*values.shape, 2)) if influence is None else influence)


def test_an_area_is_a_trapezoid_over_the_span_and_a_trend_a_least_squares_slope() -> None:
    curve = np.array([0.61, 0.70, 0.69, 0.83])
    assert area_weights(X) @ curve == pytest.approx(integrate.trapezoid(curve, X) / (X[-1] - X[0]), abs=1e-15)
    assert trend_weights(X) @ curve == pytest.approx(stats.linregress(X, curve).slope, abs=1e-15)
    assert area_weights(X).sum() == pytest.approx(1.0)
    assert trend_weights(X).sum() == pytest.approx(0.0, abs=1e-15)


def test_one_number_a_chain_has_the_influence_of_its_parts() -> None:
    rng = np.random.default_rng(0)
    one = Chains(values=rng.normal(0.8, 0.02, (5, 4)), influence=0.003 * rng.standard_normal((5, 4, 40)))
    values, influence = one.read(trend_weights(X))
    assert values == pytest.approx([stats.linregress(X, row).slope for row in one.values])
    assert influence[2, 7] == pytest.approx(stats.linregress(X, one.influence[2, :, 7]).slope)
    assert crossed(*one.level(3).read(np.ones(1))).value == pytest.approx(one.values[:, 3].mean())


@settings(deadline=None)
@given(curve=st.lists(st.floats(0.5, 0.95), min_size=2, max_size=6), level=st.floats(0.45, 1.0))
def test_a_level_is_reached_where_another_isotonic_regression_reaches_it(curve: list[float], level: float) -> None:
    x = np.log(64.0 * 2.0 ** np.arange(len(curve)))
    fitted = IsotonicRegression().fit(x, curve)
    dense = np.linspace(x[0], x[-1], 20_001)
    at = fitted.predict(dense)
    value, beyond = reached(level, np.array(curve), x)
    if level > at[-1] + 1e-9:
        assert (value, beyond) == (None, "above")
    elif level < at[0] - 1e-9:
        assert (value, beyond) == (None, "below")
    elif value is not None:
        assert beyond == ""
        # Flat pieces make a place ill-defined, the height at it never.
        assert fitted.predict([value])[0] == pytest.approx(level, abs=1e-6)
        assert at[dense < value - 1e-6].max(initial=-1) <= level + 1e-9


def test_the_interval_is_fiellers_where_that_has_a_formula() -> None:
    """Two sizes, draws alone: the place on the segment is the ratio (a - b0) / (b1 - b0) of two means over chains."""
    rng = np.random.default_rng(1)
    x = np.array([0.0, 1.0])
    common = rng.normal(0, 0.01, (8, 1))
    curve = np.array([0.70, 0.80]) + common + rng.normal(0, 0.006, (8, 2))
    level = 0.745 + common + rng.normal(0, 0.006, (8, 1))
    found = reach(chains(level), chains(curve), x, 0.95, matched=True)
    top, bottom = level[:, 0] - curve[:, 0], curve[:, 1] - curve[:, 0]
    s = np.cov(np.stack([top, bottom])) / 8
    t = stats.t.ppf(0.975, 7)
    p, q = top.mean(), bottom.mean()
    a, b, c = q**2 - t**2 * s[1, 1], p * q - t**2 * s[0, 1], p**2 - t**2 * s[0, 0]
    root = math.sqrt(b**2 - a * c)
    assert found.value == pytest.approx(p / q)
    assert (found.low, found.high) == (pytest.approx((b - root) / a, abs=1e-9), pytest.approx((b + root) / a, abs=1e-9))


def test_a_level_never_reached_is_open_above_and_one_reached_from_the_start_below() -> None:
    rng = np.random.default_rng(2)
    curve = np.array([0.6, 0.7, 0.75, 0.8]) + rng.normal(0, 0.002, (5, 4))
    high = reach(chains(0.95 + rng.normal(0, 0.002, (5, 1))), chains(curve), X, 0.95, matched=True)
    assert (high.value, high.beyond, high.low, high.high) == (None, "above", X[-1], None)
    low = reach(chains(0.4 + rng.normal(0, 0.002, (5, 1))), chains(curve), X, 0.95, matched=True)
    assert (low.value, low.beyond, low.low, low.high) == (None, "below", None, X[0])
    near = reach(chains(curve[:, [3]] + np.array([[-0.01], [0.012], [0.0], [-0.006], [0.005]])), chains(curve), X, 0.95, matched=True)
    assert near.beyond == "above"
    assert near.high is None
    assert near.low is not None
    assert X[2] < near.low < X[3]


def test_a_curve_against_itself_needs_as_many_labels() -> None:
    rng = np.random.default_rng(3)
    curve = np.array([0.6, 0.7, 0.75, 0.8]) + rng.normal(0, 0.01, (5, 4))
    found = reach(chains(curve[:, [1]]), chains(curve), X, 0.95, matched=True)
    assert found.value == pytest.approx(X[1])
    assert found.low == pytest.approx(X[1], abs=1e-6)
    assert found.high == pytest.approx(X[1], abs=1e-6)


def test_only_differences_of_logarithms_matter_and_heights_may_be_shifted() -> None:
    rng = np.random.default_rng(4)
    curve, level = np.array([0.6, 0.7, 0.72, 0.8]) + rng.normal(0, 0.01, (5, 4)), 0.71 + rng.normal(0, 0.01, (5, 1))
    first = reach(chains(level), chains(curve), X, 0.95, matched=True)
    moved = reach(chains(level - 0.2), chains(curve - 0.2), X + 3, 0.95, matched=True)
    for one, other in ((first.value, moved.value), (first.low, moved.low), (first.high, moved.high)):
        assert one is not None
        assert other == pytest.approx(one + 3, abs=1e-7)


def test_sides_that_are_not_matched_have_a_wider_interval_when_chains_go_together() -> None:
    rng = np.random.default_rng(5)
    common = rng.normal(0, 0.02, (6, 1))
    curve = np.array([0.6, 0.7, 0.75, 0.8]) + common + rng.normal(0, 0.002, (6, 4))
    level = 0.72 + common + rng.normal(0, 0.002, (6, 1))
    matched, nested = (reach(chains(level), chains(curve), X, 0.95, matched=matched) for matched in (True, False))
    assert matched.value == nested.value
    assert None not in (matched.low, matched.high)
    assert nested.low is None or nested.low < (matched.low or 0)
    assert nested.high is None or nested.high > (matched.high or 0)


def test_one_chain_has_a_place_and_no_interval() -> None:
    found = reach(chains(np.array([[0.7]])), chains(np.array([[0.6, 0.7, 0.75, 0.8]])), X, 0.95, matched=True)
    assert found.value == pytest.approx(X[1])
    assert (found.low, found.high, found.has_interval) == (None, None, False)


@pytest.mark.slow
def test_the_interval_of_a_place_covers_it() -> None:
    """True curves linear in log n, five matched chains, 150 patients: errors common to a size and errors of a chain: 600 times."""
    rng = np.random.default_rng(6)
    truth, level, place = np.array([0.60, 0.66, 0.78, 0.90]), 0.70, float(np.interp(0.70, [0.66, 0.78], X[1:3]))
    covered = 0
    for _ in range(600):
        errors = 0.0012 * rng.standard_normal((1, 5, 150)) + 0.0008 * rng.standard_normal((5, 5, 150))
        draw = rng.normal(0, 0.01, (5, 1)) + rng.normal(0, 0.01, (5, 5))
        values = np.append(truth, level) + draw + errors.sum(axis=2)
        centred = errors - errors.mean(axis=2, keepdims=True)
        curve = Chains(values=values[:, :4], influence=centred[:, :4])
        found = reach(Chains(values=values[:, 4:], influence=centred[:, 4:]), curve, X, 0.95, matched=True)
        covered += (found.low is None or found.low <= place) and (found.high is None or place <= found.high)
    assert 0.93 <= covered / 600 <= 0.975
