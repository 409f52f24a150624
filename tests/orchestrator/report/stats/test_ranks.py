"""Places over resamples against scipy's ranks, and the coverage of an interval with a borrowed spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats import forecast
from orchestrator.report.stats.multireader import crossed
from orchestrator.report.stats.ranks import rank_spreads


def test_places_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = np.round(rng.normal(np.array([[0.82], [0.8], [0.79], [0.7]]), 0.02, (4, 500)), 2)
    spreads = rank_spreads(values, 0.95)
    assert spreads is not None
    ranks = stats.rankdata(-values, axis=0)
    np.testing.assert_allclose([one.mean for one in spreads], ranks.mean(axis=1))
    best = [np.mean([(column[arm] == column.max()) / (column == column.max()).sum() for column in values.T]) for arm in range(4)]
    np.testing.assert_allclose([one.shares[0] for one in spreads], best)
    # Without ties the range is that of the ranks themselves.
    smooth = rng.normal(np.array([[0.82], [0.8], [0.79], [0.7]]), 0.02, (4, 500))
    found = rank_spreads(smooth, 0.9)
    assert found is not None
    for one, rank in zip(found, stats.rankdata(-smooth, axis=0), strict=True):
        assert (one.low, one.high) == tuple(np.quantile(rank, [0.05, 0.95], method="inverted_cdf"))


def test_every_place_is_taken_once() -> None:
    values = np.round(np.random.default_rng(1).normal(0, 1, (5, 300)), 1)
    values[:, ::7] = np.nan
    spreads = rank_spreads(values, 0.95)
    assert spreads is not None
    table = np.array([one.shares for one in spreads])
    np.testing.assert_allclose(table.sum(axis=0), 1)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    moved = rank_spreads(values[::-1], 0.95)
    assert moved is not None
    assert moved[::-1] == spreads
    assert rank_spreads(np.exp(values), 0.95) == spreads


def test_arms_that_score_alike_share_all_places_and_few_resamples_say_nothing() -> None:
    same = np.tile(np.random.default_rng(2).normal(size=200), (3, 1))
    spreads = rank_spreads(same, 0.95)
    assert spreads is not None
    assert {(one.low, one.high, round(one.mean, 9)) for one in spreads} == {(1, 3, 2.0)}
    assert rank_spreads(same[:, :99], 0.95) is None


def test_a_borrowed_interval_covers_a_method_where_that_of_a_lone_run_does_not() -> None:
    """Draws of a standard deviation of 0.03 on cases of one of 0.02: 400 studies, each with five draws and a lone run elsewhere."""
    rng = np.random.default_rng(3)
    patients, draws, inside = 80, 5, {"alone": 0, "borrowed": 0}
    for _ in range(400):
        common = 0.02 * rng.standard_normal((draws + 1, patients)) / math.sqrt(patients)
        errors = common + common[:1] * 0.5
        values = 0.03 * rng.standard_normal(draws + 1) + errors.sum(axis=1)
        moved = errors - errors.mean(axis=1, keepdims=True)
        lender = forecast.split(values[:draws], moved[:draws])
        assert lender is not None
        case = crossed(values[draws:], moved[draws:]).var_case
        variance, df = forecast.borrowed(case, lender)
        inside["alone"] += abs(values[draws]) <= 1.96 * math.sqrt(case)
        inside["borrowed"] += abs(values[draws]) <= stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert inside["alone"] < 0.8 * 400
    assert inside["borrowed"] >= 0.93 * 400


def test_nothing_to_borrow_leaves_the_variance_of_the_run() -> None:
    lender = forecast.Split(sides=(forecast.Side(draws=4, ms=0.0, single=0.1),), shared=0.0)
    assert forecast.borrowed(0.04, lender) == (0.04, math.inf)
    both = forecast.Split(sides=(forecast.Side(draws=4, ms=3.0, single=1.0), forecast.Side(draws=3, ms=2.0, single=5.0)), shared=0.0)
    assert forecast.borrowed(1.0, both) == (3.0, pytest.approx(9.0 / (9 / 3 + 4 / 2)))
