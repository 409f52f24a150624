"""Forecasts against the analysis they continue, against t intervals, and against what more draws and patients really gave."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats import forecast
from orchestrator.report.stats.forecast import Scale, Side, Split
from orchestrator.report.stats.multireader import TwoWay, crossed, nested

RAW = Scale(value=0.02, confidence=0.95, on_logit=False)


def made(rng: np.random.Generator, draws: int, patients: int, *, draw: float, patient: float, rest: float) -> tuple[np.ndarray, np.ndarray]:
    """Make values with known sources of variance: standard deviations of a draw, of what patients do to all draws, and to one alone."""
    common = patient * rng.standard_normal(patients) / patients
    own = rest * rng.standard_normal((draws, patients)) / patients
    errors = common + own
    values = 0.8 + draw * rng.standard_normal(draws) + errors.sum(axis=1)
    return values, errors - errors.mean(axis=1, keepdims=True)


def same(found: tuple[float, float], known: TwoWay) -> None:
    assert found[0] == pytest.approx(known.variance_both, rel=1e-12)
    assert found[1] == pytest.approx(known.df_both, rel=1e-12)


@pytest.mark.parametrize("sds", [(0.02, 0.3, 0.2), (0.0, 0.3, 0.5), (0.03, 0.0, 0.2)])
def test_with_nothing_more_a_forecast_is_the_analysis(sds: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (made(rng, draws, 200, draw=sds[0], patient=sds[1], rest=sds[2]) for draws in (5, 4))
        found = forecast.split(*a)
        assert found is not None
        same(found.variance(), crossed(*a))
        both = forecast.split_nested(*a, *b)
        assert both is not None
        same(both.variance(), nested(*a, *b))


def test_draws_alone_are_a_t_interval_of_their_number() -> None:
    values = np.random.default_rng(1).normal(0.02, 0.01, 6)
    found = forecast.split(values, np.zeros((6, 30)))
    assert found is not None
    for more in (0, 3, 20):
        n = 6 + more
        wanted = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
        assert forecast.half_width(found, RAW, more=more) == pytest.approx(wanted)
    assert forecast.limit(found, RAW) == 0.0
    assert forecast.draws_for(found, RAW, forecast.half_width(found, RAW, more=7)) == 7
    assert forecast.patients_for(found, RAW, forecast.half_width(found, RAW, more=1)) is None


def test_patients_alone_leave_nothing_to_more_draws() -> None:
    influence = np.tile(0.002 * np.random.default_rng(2).standard_normal(100), (5, 1))
    found = forecast.split(np.full(5, 0.8), influence)
    assert found is not None
    assert (found.draw, found.interaction) == (pytest.approx(0.0, abs=1e-18), pytest.approx(0.0, abs=1e-18))
    assert found.patient == pytest.approx((influence[0] ** 2).sum())
    assert forecast.enough_draws(found, RAW) == 0
    assert forecast.half_width(found, RAW, patients=4.0) == pytest.approx(forecast.half_width(found, RAW) / 2)
    assert forecast.patients_for(found, RAW, forecast.half_width(found, RAW) / 2) == pytest.approx(4.0)
    assert forecast.draws_for(found, RAW, forecast.half_width(found, RAW) / 2) is None
    assert forecast.limit(found, RAW) == pytest.approx(forecast.half_width(found, RAW))


def test_more_of_anything_never_widens_and_more_draws_go_to_the_limit() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        found = forecast.split(*made(rng, 5, 100, draw=0.01, patient=0.2, rest=0.1))
        assert found is not None
        widths = [forecast.half_width(found, RAW, more=more) for more in range(60)]
        assert all(left >= right - 1e-15 for left, right in pairwise(widths))
        patients = [forecast.half_width(found, RAW, patients=times) for times in (1.0, 1.5, 2.0, 8.0)]
        assert patients == sorted(patients, reverse=True)
        assert forecast.half_width(found, RAW, more=10**7) == pytest.approx(forecast.limit(found, RAW), rel=1e-2, abs=1e-5)
        assert forecast.limit(found, RAW) <= widths[-1] + 1e-12


def test_one_draw_is_worth_it_while_it_narrows_by_a_twentieth() -> None:
    found = Split(sides=(Side(draws=3, ms=1e-4, single=0.0),), shared=0.0)
    more = forecast.enough_draws(found, RAW)
    # Where draws are all there is, the number does not depend on how much they differ.
    assert more == forecast.enough_draws(Split(sides=(Side(draws=3, ms=9e-4, single=0.0),), shared=0.0), RAW) == 9
    gain = 1 - forecast.half_width(found, RAW, more=more) / forecast.half_width(found, RAW, more=more - 1)
    assert gain >= forecast.WORTH > 1 - forecast.half_width(found, RAW, more=more + 1) / forecast.half_width(found, RAW, more=more)


def test_an_area_is_scaled_on_the_logit() -> None:
    scale = Scale(value=0.97, confidence=0.95, on_logit=True)
    centre, half = math.log(0.97 / 0.03), 2.0 * 0.01 / (0.97 * 0.03)
    t = stats.t.ppf(0.975, 7) / 2.0
    ends = [1 / (1 + math.exp(-(centre + sign * half * t))) for sign in (-1, 1)]
    assert scale.half_width(0.01**2, 7) == pytest.approx((ends[1] - ends[0]) / 2)


def test_the_sources_are_found_and_the_forecast_comes_true() -> None:
    """Five draws forecast the variance of a mean over twelve, and over five with three times the patients."""
    rng = np.random.default_rng(4)
    sds = {"draw": 0.015, "patient": 0.25, "rest": 0.15}
    splits = [forecast.split(*made(rng, 5, 250, **sds)) for _ in range(600)]
    known = {"draw": 0.015**2, "patient": 0.25**2 / 250, "interaction": 0.15**2 / 250}
    for name, value in known.items():
        assert np.mean([getattr(one, name) for one in splits]) == pytest.approx(value, rel=0.08)
    true = {draws: known["draw"] / draws + (known["patient"] + known["interaction"] / draws) / times for draws, times in ((12, 1), (5, 3))}
    assert np.mean([one.variance(7)[0] for one in splits if one]) == pytest.approx(true[12], rel=0.06)
    assert np.mean([one.variance(0, 3.0)[0] for one in splits if one]) == pytest.approx(true[5], rel=0.06)
    means = [made(rng, 12, 250, **sds)[0].mean() for _ in range(3000)]
    assert np.var(means) == pytest.approx(true[12], rel=0.1)


def test_one_draw_has_no_sources() -> None:
    assert forecast.split(np.array([0.8]), np.zeros((1, 4))) is None
    assert forecast.split_nested(np.array([0.8, 0.7]), np.zeros((2, 4)), np.array([0.8]), np.zeros((1, 4))) is None
