"""Draws whose sizes are random, as MoCo-CXR's `reorganize_files.py` made them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from tests.trainers.data.layouts import rows_from
from trainers.data.access import Rows
from trainers.data.draws import select
from trainers.errors import DataError

#: The fractions of the original, and how many draws each has.
PUBLISHED = [[0.001, 5], [0.01, 5], [0.1, 5], [0.5, 5], [1.0, 1]]


def rows_of(n: int, *, per_patient: int = 1) -> Rows:
    return rows_from([f"p{index // per_patient:05d}" for index in range(n)], [float(index % 2) for index in range(n)])


def drawn(rows: Rows, fraction: float, index: int, *, of: Any = PUBLISHED, by: str = "image", seed: int = 0) -> list[int]:
    """Return the positions that a draw keeps."""
    draw = {"sizes": "random", "by": by, "fraction": fraction, "index": index, "of": of, "seed": seed}
    return select(rows, draw, "finding").rows.position.tolist()


def looped(n: int, seed: int = 0, of: Any = PUBLISHED) -> dict[tuple[float, int], list[int]]:
    """Return every draw as plain nested loops over Python's own random numbers give it."""
    numbers = random.Random(seed)
    kept: dict[tuple[float, int], list[int]] = {(fraction, index): [] for fraction, repeats in of for index in range(repeats)}
    for row in range(n):
        for fraction, repeats in of:
            for index in range(repeats):
                if numbers.random() < fraction:
                    kept[fraction, index].append(row)
    return kept


def test_the_first_rows_are_those_of_the_original() -> None:
    rows = rows_of(10)
    # The rows that seed 0 keeps of the first ten, worked out from the published loop.
    tenths = [[2, 9], [], [3, 5], [4], [1]]
    halves = [[0, 4, 6, 8, 9], [1, 5, 6, 8], [5, 7], [4, 6, 7, 8], [1, 5, 6, 8, 9]]
    for index, expected in enumerate(tenths):
        if expected:
            assert drawn(rows, 0.1, index) == expected
    assert [drawn(rows, 0.5, index) for index in range(5)] == halves
    assert drawn(rows, 1.0, 0) == list(range(10))


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_many_rows_are_those_of_the_loop(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainers.data.draws._AT_ONCE", 1000)
    rows, expected = rows_of(3000), looped(3000, seed)
    for (fraction, index), kept in expected.items():
        if kept:
            assert drawn(rows, fraction, index, seed=seed) == kept


def test_sizes_are_binomial_and_draws_independent() -> None:
    rows, of = rows_of(2000), [[0.1, 200]]
    sizes = np.array([len(drawn(rows, 0.1, index, of=of)) for index in range(200)])
    # Mean 200 and standard deviation 13.4; five standard errors of each.
    assert abs(sizes.mean() - 200) < 5 * 13.4 / np.sqrt(200)
    assert abs(sizes.std(ddof=1) - 13.4) < 5 * 13.4 / np.sqrt(2 * 199)
    one, two = (set(drawn(rows, 0.1, index, of=of)) for index in (0, 1))
    assert 5 < len(one & two) < 45


def test_another_list_of_fractions_is_another_stream_and_the_same_list_the_same() -> None:
    rows = rows_of(200)
    assert drawn(rows, 0.1, 1) == drawn(rows, 0.1, 1)
    assert drawn(rows, 0.1, 1) != drawn(rows, 0.1, 1, of=[[0.1, 2]])
    assert drawn(rows, 0.1, 1, of=None) == drawn(rows, 0.1, 1, of=[[0.1, 2]])


def test_a_patient_is_in_or_out_with_all_its_images() -> None:
    rows = rows_of(300, per_patient=3)
    kept = drawn(rows, 0.5, 0, by="patient")
    assert kept == [row for unit in looped(100)[0.5, 0] for row in range(3 * unit, 3 * unit + 3)]


def test_facts_count_what_came_up() -> None:
    found = select(rows_of(200), {"sizes": "random", "by": "image", "fraction": 0.5, "index": 0, "of": PUBLISHED}, "finding")
    assert found.facts()["n_units"] == found.n_images == len(found.rows) != 100
    assert found.held_out is None


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        ({"fraction": 0.001, "index": 0, "of": PUBLISHED}, "no image of 10 came up in draw 0 of the fraction 0.001"),
        ({"count": 4}, "random sizes come of fractions"),
        ({"fraction": 0.5, "nested_fractions": True}, "with random sizes every draw is on its own"),
        ({"fraction": 0.5, "index": 5, "of": PUBLISHED}, "has no draw 5 of the fraction 0.5"),
        ({"fraction": 0.2, "of": PUBLISHED}, "has no draw 0 of the fraction 0.2"),
        ({"scheme": "kfold", "folds": 2}, "random sizes come of fractions"),
    ],
)
def test_what_cannot_be_drawn_is_said(draw: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        select(rows_of(10), {"sizes": "random", "by": "patient" if "scheme" in draw else "image", **draw}, "finding")


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(DataError, match=r"draws.sizes: 'binomial' is none of exact, random"):
        select(rows_of(10), {"fraction": 0.5, "sizes": "binomial"}, "finding")
