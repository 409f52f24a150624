"""Each original's rule against the order statistics that it picks, written out."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.report.stats.originals import (
    Bounds,
    mean_and_population_sd,
    moco_cxr_interval,
    unichest_interval,
    unichest_macro,
)


@pytest.mark.parametrize(("count", "low", "high"), [(1000, 25, 975), (500, 12, 487), (100, 2, 97), (40, 1, 39), (39, 39, 38), (20, 20, 19)])
def test_moco_cxr_takes_these_order_statistics(count: int, low: int, high: int) -> None:
    """Counted from 1; below 40 the lower bound is the largest value of all."""
    values = np.random.default_rng(count).permutation(np.arange(1, count + 1)).astype(float)
    found = moco_cxr_interval(values)
    assert (found.low, found.high, found.value) == (low, high, (count + 1) / 2)


def test_moco_cxr_prints_three_decimals_and_the_bootstrap_mean() -> None:
    values = 0.8 + np.random.default_rng(0).normal(0, 0.01, 1000) ** 2
    found = moco_cxr_interval(values)
    ordered = sorted(values)
    assert found == Bounds(value=round(values.mean(), 3), low=round(ordered[24], 3), high=round(ordered[974], 3))


def test_unichest_takes_nine_tenths() -> None:
    found = unichest_interval(0.7, np.random.default_rng(1).permutation(np.arange(1000.0)))
    assert found == Bounds(value=0.7, low=50.0, high=950.0)
    with pytest.raises(ValueError, match="of 1,000 resamples, got 999"):
        unichest_interval(0.7, np.arange(999.0))


def test_unichest_averages_bounds_which_is_too_wide() -> None:
    """The mean of independent findings varies by 1 / sqrt(findings) of what one does; its averaged bounds do not."""
    rng = np.random.default_rng(2)
    each = rng.normal(0.8, 0.01, (14, 1000))
    macro = unichest_macro([unichest_interval(0.8, one) for one in each])
    honest = np.quantile(each.mean(axis=0), [0.05, 0.95])
    assert (macro.high - macro.low) / (honest[1] - honest[0]) == pytest.approx(np.sqrt(14), rel=0.1)
    assert macro.low == pytest.approx(np.mean([sorted(one)[50] for one in each]), abs=1e-15)


def test_the_spread_over_runs_is_divided_by_n() -> None:
    mean, spread = mean_and_population_sd(np.array([0.81, 0.83, 0.85, 0.83]))
    assert mean == pytest.approx(0.83)
    assert spread == pytest.approx(np.sqrt((2 * 0.02**2) / 4))
    assert mean_and_population_sd(np.array([0.8]))[1] == 0.0


def test_a_resample_of_one_class_has_no_place_in_an_interval() -> None:
    with pytest.raises(ValueError, match="1 of 2 replicates are not finite"):
        moco_cxr_interval(np.array([0.8, np.nan]))
    with pytest.raises(ValueError, match="0 of 0"):
        moco_cxr_interval(np.array([]))
