"""Two one-sided tests against those of statsmodels, and what they mean by the interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from orchestrator.report.stats.margins import against_margin


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.05])
def test_over_draws_alone_they_are_those_of_statsmodels(margin: float) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.01, 7), rng.normal(0.795, 0.01, 7)
    found = against_margin(float((a - b).mean()), float((a - b).std(ddof=1) / math.sqrt(7)), 6, margin, 0.95)
    p, (_, not_worse, _), (_, not_better, _) = ttost_paired(a, b, -margin, margin)
    assert found.p_equivalent == pytest.approx(p, rel=1e-9)
    assert (found.p_not_worse, found.p_not_better) == (pytest.approx(not_worse, rel=1e-9), pytest.approx(not_better, rel=1e-9))


@given(value=st.floats(-0.1, 0.1), se=st.floats(0.001, 0.1), df=st.integers(2, 200), margin=st.floats(0.001, 0.2))
def test_equivalence_is_the_interval_inside_the_margins(value: float, se: float, df: int, margin: float) -> None:
    found = against_margin(value, se, df, margin, 0.95)
    if abs(found.p_equivalent - 0.05) > 1e-9:
        assert (found.p_equivalent < 0.05) == (-margin < found.low and found.high < margin)
    mirrored = against_margin(-value, se, df, margin, 0.95)
    assert mirrored.p_not_worse == pytest.approx(found.p_not_better)


def test_a_normal_stands_where_there_are_no_degrees_of_freedom() -> None:
    found = against_margin(0.0, 0.01, math.inf, 0.0196, 0.95)
    assert found.p_equivalent == pytest.approx(stats.norm.sf(1.96))
    with pytest.raises(ValueError, match="positive standard error"):
        against_margin(0.0, 0.0, 5, 0.01, 0.95)
