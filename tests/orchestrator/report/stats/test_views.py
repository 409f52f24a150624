"""Views over labels and draws against scipy and a loop, and what they do with nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.stats.bootstrap import drawn_again, mean_over_draws, of_side, resample
from orchestrator.report.stats.views import crossed_replicates, interquartile_mean, probability_of_improvement

RNG_SHAPE = (5, 3, 40)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 70])
def test_the_middle_half_is_scipys_trimmed_mean(count: int) -> None:
    values = np.random.default_rng(count).normal(0.8, 0.1, (1, count, 3))
    expected = [stats.trim_mean(values[0, :, resample], 0.25) for resample in range(3)]
    assert interquartile_mean(values) == pytest.approx(expected, abs=1e-14)


def test_one_collapsed_run_moves_a_mean_and_not_the_middle() -> None:
    values = np.full((5, 8, 1), 0.8)
    values[2] = 0.5
    assert interquartile_mean(values)[0] == pytest.approx(0.8)
    assert values.mean() == pytest.approx(0.74)


def test_improvement_is_mann_whitneys_share_averaged_over_labels() -> None:
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(0.82, 0.03, (5, 6, 1)), 2), np.round(rng.normal(0.80, 0.03, (4, 6, 1)), 2)
    expected = np.mean([stats.mannwhitneyu(a[:, k, 0], b[:, k, 0]).statistic / 20 for k in range(6)])
    found = probability_of_improvement(a, b)[0]
    assert found == pytest.approx(expected, abs=1e-14)
    assert probability_of_improvement(b, a)[0] == pytest.approx(1 - expected, abs=1e-14)
    assert probability_of_improvement(a, a)[0] == pytest.approx(0.5, abs=1e-14)


def test_a_label_that_was_not_drawn_is_left_out_of_that_resample_alone() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random((4, 3, 2)), rng.random((4, 3, 2))
    whole = interquartile_mean(a)[1], probability_of_improvement(a, b)[1]
    a[:, 2, 0] = b[:, 2, 0] = np.nan
    assert interquartile_mean(a)[0] == pytest.approx(interquartile_mean(a[:, :2, :1])[0])
    assert probability_of_improvement(a, b)[0] == pytest.approx(probability_of_improvement(a[:, :2], b[:, :2])[0])
    assert (interquartile_mean(a)[1], probability_of_improvement(a, b)[1]) == whole


def test_where_nothing_was_drawn_there_is_no_value_and_other_labels_are_refused() -> None:
    nothing = np.full((2, 3, 1), np.nan)
    assert np.isnan(interquartile_mean(nothing)).all()
    assert np.isnan(probability_of_improvement(nothing, nothing)).all()
    with pytest.raises(ValueError, match="draws by labels"):
        probability_of_improvement(np.zeros((2, 3, 1)), np.zeros((2, 4, 1)))


def _loop(statistic: Callable[..., float], sides: list[np.ndarray], taken: list[np.ndarray], matched: bool) -> list[float]:
    """Redraw one resample after another, one arm after another, by hand."""
    made = []
    for at in range(sides[0].shape[2]):
        own = [side[:, :, at] for side in sides]
        fixed, value = statistic(*own), statistic(*own)
        if matched:
            moved = statistic(*(side[taken[0][:, at]] for side in own))
            value += math.sqrt(len(own[0]) / (len(own[0]) - 1)) * (moved - fixed)
        else:
            for index, side in enumerate(own):
                moved = statistic(*(one[taken[index][:, at]] if place == index else one for place, one in enumerate(own)))
                value += math.sqrt(len(side) / (len(side) - 1)) * (moved - fixed)
        made.append(value)
    return made


@pytest.mark.parametrize("matched", [True, False])
def test_the_crossed_bootstrap_of_an_improvement_is_a_loop(matched: bool) -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(RNG_SHAPE), rng.random(RNG_SHAPE if matched else (4, *RNG_SHAPE[1:]))
    counts = resample(10, RNG_SHAPE[2], seed=3)
    taken = [drawn_again(len(side), RNG_SHAPE[2], counts if matched else of_side(counts, index)) for index, side in enumerate((a, b))]

    def share(first: np.ndarray, second: np.ndarray) -> float:
        wins = [(x > y) + 0.5 * (x == y) for k in range(first.shape[1]) for x in first[:, k] for y in second[:, k]]
        return float(np.mean(wins))

    found = crossed_replicates(probability_of_improvement, (a, b), counts, matched=matched)
    assert found == pytest.approx(_loop(share, [a, b], taken, matched), abs=1e-12)


def test_the_crossed_bootstrap_of_a_middle_half_is_a_loop() -> None:
    areas = np.random.default_rng(4).random(RNG_SHAPE)
    counts = resample(10, RNG_SHAPE[2], seed=5)
    expected = _loop(
        lambda values: float(stats.trim_mean(values.ravel(), 0.25)), [areas], [drawn_again(5, RNG_SHAPE[2], counts)], matched=True
    )
    assert crossed_replicates(interquartile_mean, (areas,), counts) == pytest.approx(expected, abs=1e-12)


def test_for_a_mean_it_is_the_crossed_bootstrap_of_the_headline() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random((5, 1, 50)), rng.random((3, 1, 50))
    counts = resample(10, 50, seed=7)

    def mean(first: np.ndarray) -> np.ndarray:
        return first.mean(axis=(0, 1))

    expected = mean_over_draws(a[:, 0], counts, redraw=True)
    assert crossed_replicates(mean, (a,), counts) == pytest.approx(expected, abs=1e-14)
    less = expected - mean_over_draws(b[:, 0], of_side(counts, 1), redraw=True)
    found = crossed_replicates(lambda x, y: mean(x) - mean(y), (a, b), counts, matched=False)
    assert found == pytest.approx(less, abs=1e-14)


def test_one_draw_is_not_drawn_again() -> None:
    areas = np.random.default_rng(8).random((1, 6, 20))
    assert np.array_equal(crossed_replicates(interquartile_mean, (areas,), resample(5, 20)), interquartile_mean(areas))
