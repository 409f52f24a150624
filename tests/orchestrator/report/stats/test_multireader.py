"""Draws x patients against arithmetic by hand, and against repeated experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats import intervals
from orchestrator.report.stats.multireader import crossed, nested


def test_one_arm_equals_hillis_by_hand() -> None:
    values = np.array([0.80, 0.84, 0.79])
    influence = np.array([[0.01, -0.02, 0.01], [0.02, -0.01, -0.01], [0.00, -0.02, 0.02]])
    found = crossed(values, influence)
    ms = ((0.80 - 0.81) ** 2 + (0.84 - 0.81) ** 2 + (0.79 - 0.81) ** 2) / 2
    # Products of rows: 1x2 = .0002+.0002-.0001, 1x3 = 0+.0004+.0002, 2x3 = 0+.0002-.0002.
    cov2 = (0.0003 + 0.0006 + 0.0) / 3
    assert found.ms == pytest.approx(ms)
    assert found.cov_case == pytest.approx(cov2)
    assert found.var_case == pytest.approx((0.0006 + 0.0006 + 0.0008) / 3)
    assert found.variance_both == pytest.approx((ms + 3 * cov2) / 3)
    assert found.df_both == pytest.approx((ms + 3 * cov2) ** 2 / (ms**2 / 2))
    assert found.variance_draws == pytest.approx(ms / 3)
    assert found.df_draws == 2


def test_a_matched_difference_equals_the_two_arm_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.02, 5), rng.normal(0.75, 0.02, 5)
    u, v = (0.002 * rng.standard_normal((5, 300)) + 0.002 * rng.standard_normal(300) for _ in range(2))
    found = crossed(a - b, u - v)
    # Hillis (2007): SE^2 = (2/D)(MS(TR) + D max(Cov2 - Cov3, 0)), with D draws and two arms.
    d = 5
    arms, draws, grand = np.stack([a, b]).mean(axis=1), np.stack([a, b]).mean(axis=0), np.stack([a, b]).mean()
    ms_tr = ((np.stack([a, b]) - arms[:, None] - draws[None] + grand) ** 2).sum() / ((2 - 1) * (d - 1))
    off = ~np.eye(d, dtype=bool)
    cov2 = np.mean([(u @ u.T)[off].mean(), (v @ v.T)[off].mean()])
    cov3 = (u @ v.T)[off].mean()
    inner = ms_tr + d * max(cov2 - cov3, 0)
    assert found.variance_both == pytest.approx(max(2 / d * inner, found.variance_patients))
    assert found.df_both == pytest.approx(inner**2 / (ms_tr**2 / (d - 1)))


def test_unmatched_arms_with_equal_spread_equal_the_pooled_form() -> None:
    base = np.array([-0.02, 0.0, 0.02])
    influence = np.random.default_rng(1).standard_normal((6, 50)) * 0.003
    found = nested(0.8 + base, influence[:3], 0.7 + base, influence[3:])
    ms = float(base.var(ddof=1))
    covariance = influence @ influence.T
    off = ~np.eye(3, dtype=bool)
    cov2 = (covariance[:3, :3][off].mean() + covariance[3:, 3:][off].mean()) / 2
    cov3 = covariance[:3, 3:].mean()
    inner = ms + 3 * max(cov2 - cov3, 0)
    assert found.variance_both == pytest.approx(max(2 / 3 * inner, found.variance_patients))
    assert found.df_both == pytest.approx(inner**2 / (ms**2 / (2 * (3 - 1))))


def test_the_variance_of_these_models_is_that_of_their_mean() -> None:
    influence = np.random.default_rng(2).standard_normal((4, 90)) * 0.01
    found = crossed(np.array([0.7, 0.7, 0.7, 0.7]), influence)
    assert found.variance_patients == pytest.approx((influence.mean(axis=0) ** 2).sum())
    # Draws that do not differ leave the patients alone, and never a narrower answer.
    assert found.variance_both == pytest.approx(max(found.cov_case or 0, found.variance_patients))
    assert math.isinf(found.df_both)


def test_one_run_answers_the_first_question_only() -> None:
    found = crossed(np.array([0.8]), np.full((1, 4), 0.01))
    assert (found.variance_draws, found.variance_both, found.ms) == (None, None, None)
    lone = nested(np.array([0.8]), np.full((1, 4), 0.01), np.array([0.7, 0.72]), np.full((2, 4), 0.02))
    assert lone.variance_both is None
    assert lone.variance_patients == pytest.approx(4 * 0.01**2)


@pytest.mark.slow
@pytest.mark.parametrize("draw_sd", [0.01, 0.03])
def test_intervals_cover_and_differences_of_equal_arms_are_seldom_claimed(draw_sd: float) -> None:
    """Two equal methods, five matched draws, binormal scores, 300 patients with two images each: 200 repetitions."""
    from orchestrator.report.stats.influence import influence

    rng = np.random.default_rng(10)
    covered = claimed = 0
    # The slope of the area at separation 1, which turns a spread of areas into one of separations.
    slope = stats.norm.pdf(1 / np.sqrt(2)) / np.sqrt(2)
    truth_area = _mean_area(1.0, draw_sd / slope)
    for _ in range(200):
        of_patient = rng.random(300) < 0.25
        truth, cluster = np.repeat(of_patient, 2).astype(np.int8), np.repeat(np.arange(300), 2)
        hard = np.repeat(rng.standard_normal(300), 2) * np.sqrt(0.3)
        values, moved = [], []
        for _arm in range(2):
            own = np.repeat(rng.standard_normal(300), 2) * np.sqrt(0.2)
            for _draw in range(5):
                separation = 1.0 + draw_sd / slope * rng.standard_normal()
                score = separation * truth + hard + own + rng.standard_normal(600) * np.sqrt(0.5)
                one = influence(truth, score, cluster, 300)
                assert one is not None
                values.append(one.auroc)
                moved.append(one.values)
        a, u = np.array(values), np.stack(moved)
        arm = crossed(a[:5], u[:5])
        low, high = intervals.on_logit(arm.value, math.sqrt(arm.variance_both or 0), arm.df_both, 0.95)
        covered += low <= truth_area <= high
        gap = crossed(a[:5] - a[5:], u[:5] - u[5:])
        claimed += intervals.p_two_sided(gap.value, math.sqrt(gap.variance_both or 0), gap.df_both) < 0.05
    assert 0.90 <= covered / 200 <= 0.99
    assert claimed / 200 <= 0.105


def _mean_area(separation: float, spread: float) -> float:
    return float(stats.norm.cdf(separation / np.sqrt(2 + spread**2)))
