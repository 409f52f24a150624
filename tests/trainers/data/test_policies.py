from __future__ import annotations

import numpy as np
import pytest

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
