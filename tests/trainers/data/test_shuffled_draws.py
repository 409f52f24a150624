"""Draws that are the first of a shuffle, as the benchmark of transformers makes its reduced annotations."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.trainers.data.layouts import rows_from
from trainers.data.access import Rows
from trainers.data.draws import select
from trainers.errors import DataError


def rows_of(n: int, per_patient: int = 1) -> Rows:
    return rows_from([f"p{index // per_patient:05d}" for index in range(n)], [float(index % 2) for index in range(n)])


def drawn(rows: Rows, fraction: float | None, index: int = 0, **more: Any) -> list[int]:
    """Return the positions that a draw keeps, in the order of the rows."""
    draw = {"sizes": "shuffled", "by": "image", "fraction": fraction, "index": index, "seed": 99, **more}
    return select(rows, draw, "finding").rows.position.tolist()


@pytest.mark.parametrize(
    ("n", "first"),
    [
        (10, [7, 2, 0, 8, 5, 1, 4, 3, 9, 6]),
        (20, [9, 0, 13, 16, 15, 14, 10, 11, 8, 17]),
        (100, [92, 15, 50, 20, 18, 58, 77, 44, 82, 65]),
        # The few-shot option of the benchmark's segmentation, on its 173 training images of JSRT.
        (173, [31, 85, 41, 167, 73, 96, 131, 61, 30, 155]),
    ],
)
def test_the_first_rows_of_the_published_shuffles(n: int, first: list[int]) -> None:
    rows = rows_of(n)
    for count in range(1, len(first) + 1):
        # Half a unit more than the count, so that no product rounds below it.
        assert drawn(rows, min(1.0, (count + 0.5) / n)) == sorted(first[:count])


@pytest.mark.parametrize(("n", "fraction", "size"), [(75_312, 0.25, 18_828), (463, 0.1, 46), (463, 1.0, 463), (7, 0.5, 3)])
def test_a_share_is_cut_to_a_whole_number(n: int, fraction: float, size: int) -> None:
    found = drawn(rows_of(n), fraction)
    order = list(range(n))
    random.Random(99).shuffle(order)
    assert found == sorted(order[:size])


def test_the_next_draw_is_the_next_seeds_and_smaller_ones_lie_inside_it() -> None:
    rows = rows_of(60)
    assert drawn(rows, 0.3, index=2) == drawn(rows, 0.3, seed=101) != drawn(rows, 0.3)
    assert set(drawn(rows, 0.1)) < set(drawn(rows, 0.3)) < set(drawn(rows, 0.9))


def test_patients_are_drawn_whole() -> None:
    rows = rows_of(60, per_patient=3)
    assert drawn(rows, 0.25, by="patient") == sorted(row for patient in _first(20, 5) for row in range(3 * patient, 3 * patient + 3))


def _first(n: int, count: int) -> list[int]:
    order = list(range(n))
    random.Random(99).shuffle(order)
    return order[:count]


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        ({"fraction": None, "count": 3}, r"draws\.sizes: shuffled sizes come of fractions"),
        ({"nested_fractions": True}, r"with shuffled sizes smaller draws lie inside larger ones anyway: leave it out"),
        ({"fraction": 0.01}, r"draws\.fraction: 0\.01 of 10 image units is none: raise the fraction"),
    ],
)
def test_what_cannot_be_drawn_is_said(draw: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        drawn(rows_of(10), **{"fraction": 0.5, **draw})
