"""Axis values: exact grids, and samples that never change when more are asked for."""

from __future__ import annotations

import math
from statistics import NormalDist, mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.axes import expand_values, grid, sample_choice, sample_normal, sample_range, uniform

NAMES = st.text(min_size=1, max_size=12)
SEEDS = st.integers(min_value=0, max_value=2**40)


def test_grids_hold_the_doubles_that_people_would_write() -> None:
    assert grid(1e-4, 1e-1, 4, log=True) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert grid(0.1, 0.5, 5) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert grid(1, 0, 3) == [1.0, 0.5, 0.0]


@given(st.floats(1e-8, 1e8), st.floats(1e-8, 1e8), st.integers(2, 30), st.booleans())
def test_both_ends_of_a_grid_are_exact_and_steps_are_even(low: float, high: float, steps: int, log: bool) -> None:
    if low == high:
        return
    values = grid(low, high, steps, log=log)
    assert len(values) == steps and values[0] == low and values[-1] == high
    scaled = [math.log(value) for value in values] if log else values
    step = (scaled[-1] - scaled[0]) / (steps - 1)
    for index, value in enumerate(scaled):
        assert value == pytest.approx(scaled[0] + index * step, rel=1e-9, abs=1e-9 * max(map(abs, scaled)))


@given(SEEDS, NAMES, st.integers(1, 20), st.integers(1, 20))
def test_more_samples_keep_the_earlier_ones(seed: int, name: str, few: int, more: int) -> None:
    total = few + more
    assert sample_range(seed, name, 0.1, 2.0, total)[:few] == sample_range(seed, name, 0.1, 2.0, few)
    assert sample_range(seed, name, 1e-5, 1e-1, total, log=True)[:few] == sample_range(seed, name, 1e-5, 1e-1, few, log=True)
    assert sample_range(seed, name, 1, 100, total, whole=True)[:few] == sample_range(seed, name, 1, 100, few, whole=True)
    assert sample_normal(seed, name, 0.0, 1.0, total)[:few] == sample_normal(seed, name, 0.0, 1.0, few)
    many = list(range(50))
    assert sample_choice(seed, name, many, total)[:few] == sample_choice(seed, name, many, few)


@given(SEEDS, NAMES, st.integers(1, 30))
def test_samples_stay_inside_their_bounds(seed: int, name: str, n: int) -> None:
    assert all(0.1 <= value <= 2.0 for value in sample_range(seed, name, 0.1, 2.0, n))
    assert all(1e-5 <= value <= 1e-1 for value in sample_range(seed, name, 1e-5, 1e-1, n, log=True))
    whole = sample_range(seed, name, 3, 40, n, whole=True)
    assert all(isinstance(value, int) and 3 <= value <= 40 for value in whole) and len(set(whole)) == n


def test_a_known_sample_never_changes() -> None:
    """The numbers stand in job ids: another result here is another study."""
    assert sample_range(0, "lr", 1e-4, 1e-1, 3, log=True) == [0.013210035305795979, 0.046195913809339, 0.013278323699506376]
    assert sample_range(7, "warmup", 0, 1, 2) == [0.32045859661325793, 0.304151926530439]
    assert sample_normal(0, "k", 0.0, 1.0, 2) == [0.730544397844, -0.482219034721]
    assert sample_choice(0, "k", ["a", "b", "c"], 3) == ["c", "a", "b"]


def test_samples_are_spread_as_they_say() -> None:
    n = 4000
    flat = sample_range(1, "a", 0, 1, n)
    assert mean(flat) == pytest.approx(0.5, abs=4 / math.sqrt(12 * n))
    logs = [math.log10(value) for value in sample_range(1, "a", 1e-4, 1, n, log=True)]
    assert mean(logs) == pytest.approx(-2, abs=4 * 4 / math.sqrt(12 * n))
    normal = sample_normal(1, "a", 2.0, 3.0, n)
    inside = sum(value < 2.0 + 3.0 * NormalDist().inv_cdf(0.8) for value in normal) / n
    assert inside == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / n))
    firsts = [sample_range(seed, "k", 1, 4, 1, whole=True)[0] for seed in range(n)]
    for value in range(1, 5):
        assert firsts.count(value) / n == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / n))


def test_parameters_are_independent() -> None:
    n = 4000
    one, two = (sample_range(0, name, 0, 1, n) for name in ("lr", "weight_decay"))
    covariance = mean((a - 0.5) * (b - 0.5) for a, b in zip(one, two, strict=True))
    assert abs(covariance * 12) < 4 / math.sqrt(n)


@given(SEEDS, NAMES, st.integers(0, 10**9))
def test_a_draw_is_strictly_between_zero_and_one(seed: int, name: str, index: int) -> None:
    assert 0.0 < float(uniform(seed, name, index)) < 1.0


def test_grids_of_whole_numbers_are_whole() -> None:
    values = expand_values({"from": 10, "to": 40, "steps": 4}, seed=0, name="epochs", whole=True)
    assert values == [10, 20, 30, 40] and all(type(value) is int for value in values)


def test_a_list_in_a_search_is_drawn_from() -> None:
    drawn = expand_values(["a", "b"], seed=0, name="augment", whole=False, n=40)
    assert len(drawn) == 40 and set(drawn) == {"a", "b"}
    assert drawn[:10] == expand_values(["a", "b"], seed=0, name="augment", whole=False, n=10)
