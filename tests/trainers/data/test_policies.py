from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.trainers.data.layouts import rows_from
from trainers.data.access import Rows
from trainers.data.policies import targets, truths

NAN = float("nan")


def rows() -> Rows:
    return rows_from(["a", "b", "c", "d"], [1.0, 0.0, -1.0, NAN])


@pytest.mark.parametrize(
    ("policies", "learnt"),
    [
        ({}, [1, 0, NAN, 0]),
        ({"uncertain": "ignore", "missing": "zeros"}, [1, 0, NAN, 0]),
        ({"uncertain": "ones", "missing": "ignore"}, [1, 0, 1, NAN]),
        ({"uncertain": "zeros"}, [1, 0, 0, 0]),
        ({"uncertain": "zeros", "uncertain/finding": "ones", "uncertain/other": "ignore"}, [1, 0, 1, 0]),
    ],
)
def test_training_learns_what_the_policy_says(policies: dict[str, str], learnt: list[float]) -> None:
    np.testing.assert_array_equal(targets(rows(), policies)[:, 0], learnt)


@pytest.mark.parametrize("uncertain", ["ones", "zeros", "ignore"])
def test_evaluation_drops_what_is_uncertain_whatever_training_made_of_it(uncertain: str) -> None:
    np.testing.assert_array_equal(truths(rows(), {"uncertain": uncertain})[:, 0], [1, 0, NAN, 0])


def test_labels_on_disk_are_left_alone() -> None:
    given = rows()
    targets(given, {"uncertain": "ones"})
    np.testing.assert_array_equal(given.labels[:, 0], [1, 0, -1, NAN])


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="label policy uncertain: 'maybe' is none of ignore, ones, zeros"):
        targets(rows(), {"uncertain": "maybe"})


def test_soft_targets_lie_in_their_range_and_are_the_same_whatever_the_order() -> None:
    rows = rows_from([f"p{number}" for number in range(400)], [-1.0] * 400)
    policies = {"uncertain": "lsr_ones", "missing": "zeros"}
    soft = targets(rows, policies)[:, 0]
    assert soft.min() >= 0.55 and soft.max() <= 0.85
    # Uniform: mean (low + high) / 2, sd (high - low) / sqrt(12); 400 draws leave a twentieth of the sd.
    assert abs(soft.mean() - 0.7) < 0.02 and abs(soft.std() - 0.3 / 12**0.5) < 0.01
    order = np.random.default_rng(0).permutation(400)
    assert (targets(rows.take(order), policies)[:, 0] == soft[order]).all()
    assert (targets(rows, policies, epoch=1)[:, 0] != soft).all()
    zeros = targets(rows, {"uncertain/finding": "lsr_zeros(0.1,0.2)"})[:, 0]
    assert zeros.min() >= 0.1 and zeros.max() <= 0.2 and np.isnan(truths(rows, policies)).all()


def test_an_unknown_soft_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'lsr' is none of ignore, ones, zeros, lsr_ones, lsr_zeros"):
        targets(rows_from(["p"], [-1.0]), {"uncertain": "lsr"})


def test_soft_targets_of_a_seed_are_its_own_in_every_epoch_and_whatever_the_order() -> None:
    rows = rows_from([f"i{k}" for k in range(400)], [-1.0] * 400)
    policies = {"uncertain": "lsr_ones"}
    first = targets(rows, policies, epoch=2, seed=5)[:, 0]
    for other in ({"epoch": 3, "seed": 5}, {"epoch": 2, "seed": 6}, {"epoch": 2}):
        assert (targets(rows, policies, **other)[:, 0] != first).mean() > 0.99  # type: ignore[arg-type]
    backwards = targets(rows.take(np.arange(400)[::-1]), policies, epoch=2, seed=5)[:, 0]
    np.testing.assert_array_equal(backwards[::-1], first)
    assert 0.55 <= first.min() < 0.56
    assert 0.84 < first.max() <= 0.85
    assert stats.kstest(first, stats.uniform(0.55, 0.3).cdf).pvalue > 0.001
