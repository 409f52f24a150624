from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.data.layouts import rows_from
from trainers.data.access import Rows
from trainers.data.cards import load_card
from trainers.data.draws import draw_digest, folds, select, size_of
from trainers.errors import DataError


@st.composite
def some_rows(draw: Any) -> Rows:
    """Rows of at least three patients with one to three images, some positive, some negative, some uncertain or blank."""
    values = st.sampled_from([1.0, 0.0, -1.0, float("nan")])
    patients = draw(st.lists(st.lists(values, min_size=1, max_size=3), min_size=3, max_size=40))
    names = [f"p{number:03d}" for number, labels in enumerate(patients) for _ in labels]
    labels = [value for found in patients for value in found]
    return rows_from(
        [*names, "yes", "no"], [*labels, 1.0, 0.0], studies=[f"{name}/{index % 2}" for index, name in enumerate([*names, "yes", "no"])]
    )


def units(rows: Rows, by: str) -> np.ndarray:
    return {"patient": rows.patients, "study": rows.studies, "image": rows.images}[by]


@settings(max_examples=200, deadline=None)
@given(
    rows=some_rows(),
    fraction=st.floats(0.001, 1.0),
    index=st.integers(0, 5),
    by=st.sampled_from(["patient", "study", "image"]),
    nested=st.booleans(),
)
def test_a_draw_has_its_exact_size_whole_units_and_both_classes(rows: Rows, fraction: float, index: int, by: str, nested: bool) -> None:
    drawn = select(rows, {"by": by, "fraction": fraction, "index": index, "nested_fractions": nested}, "finding")
    everything, kept = units(rows, by), units(drawn.rows, by)
    assert (
        len(np.unique(kept))
        == drawn.n_units
        == (len(np.unique(everything)) if fraction == 1 else size_of(len(np.unique(everything)), fraction))
    )
    assert len(drawn.rows) == drawn.n_images == int(np.isin(everything, kept).sum())
    assert list(drawn.rows.position) == sorted(drawn.rows.position)
    assert (drawn.rows.labels == 1).any()
    assert (np.nan_to_num(drawn.rows.labels) == 0).any()
    assert drawn.digest == draw_digest(drawn.rows, by)


@settings(max_examples=200, deadline=None)
@given(rows=some_rows(), sizes=st.lists(st.floats(0.001, 1.0), min_size=2, max_size=5), index=st.integers(0, 3))
def test_nested_draws_contain_the_smaller_ones(rows: Rows, sizes: list[float], index: int) -> None:
    draws = [select(rows, {"fraction": size, "index": index, "nested_fractions": True}, "finding").rows.images for size in sorted(sizes)]
    for smaller, larger in pairwise(draws):
        assert set(smaller) <= set(larger)


@settings(max_examples=200, deadline=None)
@given(rows=some_rows(), fraction=st.floats(0.01, 0.9), seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: Rows, fraction: float, seed: int, order: Any) -> None:
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    draw = {"fraction": fraction, "seed": seed, "index": 1}
    first, second = select(rows, draw, "finding"), select(rows.take(np.array(shuffled)), draw, "finding")
    assert first.facts() == second.facts()
    assert set(first.rows.images) == set(second.rows.images)


def pool(count: int, positive: float) -> Rows:
    names = [f"patient{number:05d}" for number in range(count)]
    return rows_from(names, [float(number < positive * count) for number in range(count)])


def test_draws_differ_by_index_seed_and_when_independent_by_size() -> None:
    rows = pool(400, 0.3)
    one = select(rows, {"count": 40, "index": 0, "seed": 0}, "finding")
    assert (
        len({select(rows, {"count": 40, "index": index, "seed": seed}, "finding").digest for index in range(5) for seed in range(5)}) == 25
    )
    larger = select(rows, {"count": 80, "index": 0, "seed": 0}, "finding")
    overlap = len(set(one.rows.patients) & set(larger.rows.patients))
    # Independent: 40 of which a fifth (8) is expected in the larger one; nested would be all 40.
    assert overlap < 20


def test_positives_come_in_proportion() -> None:
    rows = pool(1000, 0.24)
    for count, positive in ((2, 1), (3, 1), (50, 12), (100, 24), (250, 60)):
        assert select(rows, {"count": count}, "finding").n_positive == positive
    assert select(pool(1000, 0.995), {"count": 20}, "finding").n_positive == 19


def test_every_unit_is_drawn_about_equally_often() -> None:
    rows = pool(100, 0.3)
    times = np.zeros(100)
    for index in range(400):
        times[select(rows, {"fraction": 0.2, "index": index}, "finding").rows.position] += 1
    # Binomial with p = .2 in each stratum: sd sqrt(400 * .16) = 8.
    assert times.min() > 80 - 5 * 8
    assert times.max() < 80 + 5 * 8


def test_the_whole_pool_stays_as_it_is() -> None:
    rows = pool(30, 0.0)
    drawn = select(rows, {"fraction": 1.0, "index": 3}, "finding")
    assert drawn.rows.images.tolist() == rows.images.tolist()
    assert drawn.n_positive == 0


def test_units_of_which_all_is_uncertain_are_no_negatives() -> None:
    labels = [1.0] * 5 + [-1.0] * 50 + [0.0]
    rows = rows_from([f"p{number:02d}" for number in range(len(labels))], labels)
    for index in range(10):
        assert (select(rows, {"count": 2, "index": index}, "finding").rows.labels == 0).any()
    blank = rows_from(["a", "b", "c"], [1.0, float("nan"), float("nan")])
    assert select(blank, {"count": 2}, "finding").n_units == 2
    with pytest.raises(DataError, match="no negative unit of 'finding'"):
        select(blank, {"count": 2}, "finding", {"missing": "ignore"})


def test_a_known_draw_never_moves() -> None:
    rows = pool(50, 0.4)
    drawn = select(rows, {"count": 4, "index": 2, "nested_fractions": True, "seed": 7}, "finding")
    assert drawn.rows.patients.tolist() == ["patient00012", "patient00017", "patient00027", "patient00035"]


@settings(max_examples=100, deadline=None)
@given(rows=some_rows(), count=st.integers(2, 5), index=st.integers(0, 3))
def test_folds_hold_every_patient_out_once(rows: Rows, count: int, index: int) -> None:
    parts = [select(rows, {"scheme": "kfold", "folds": count, "fold": fold, "index": index}, "finding") for fold in range(count)]
    held_out = np.concatenate([part.held_out.images for part in parts if part.held_out is not None])
    assert sorted(held_out) == sorted(rows.images)
    sizes = []
    for part in parts:
        assert part.held_out is not None
        assert not set(part.held_out.patients) & set(part.rows.patients)
        sizes.append(len(set(part.held_out.patients)))
    assert max(sizes) - min(sizes) <= 1


def test_folds_share_positives_out_evenly() -> None:
    rows = pool(103, 0.2)
    positives = [select(rows, {"scheme": "kfold", "folds": 5, "fold": fold}, "finding").held_out for fold in range(5)]
    counts = [int(part.labels.sum()) for part in positives if part is not None]
    assert sorted(counts) == [4, 4, 4, 4, 5]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"fractoin": 0.1}, "draws.fractoin: unknown key"),
    "no size": ({}, "give one of fraction and count"),
    "two sizes": ({"fraction": 0.1, "count": 3}, "give one of fraction and count"),
    "fraction": ({"fraction": 1.5}, "draws.fraction: 1.5 is not between 0 and 1"),
    "count of one": ({"count": 1}, "draws.count: 1 is not a whole number of at least 2"),
    "count too large": ({"count": 99}, "99 patient units asked for, and the training rows have 10"),
    "scheme": ({"scheme": "bootstrap"}, "draws.scheme: 'bootstrap' is none of"),
    "by": ({"by": "row", "fraction": 0.5}, "draws.by: 'row' is none of"),
    "fold by image": ({"scheme": "kfold", "folds": 2, "by": "image"}, "would put images of one patient on both sides"),
    "fold": ({"scheme": "kfold", "folds": 2, "fold": 2}, "fold 2 of 2"),
    "folds": ({"scheme": "kfold", "folds": 11, "fold": 2}, "11 folds of 10 patients"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_draw_that_cannot_be_had_says_why(case: str) -> None:
    draw, message = BAD[case]
    with pytest.raises(DataError) as error:
        select(pool(10, 0.5), draw, "finding")
    assert message in str(error.value)


def test_a_pool_without_positives_cannot_be_drawn_from() -> None:
    with pytest.raises(DataError, match="no positive unit of 'finding'"):
        select(pool(10, 0.0), {"fraction": 0.5}, "finding")


def test_only_schemes_with_folds_have_a_number_of_folds() -> None:
    card = load_card("kermany16")
    assert card.shipped_root is not None
    assert folds(card, card.shipped_root, {"scheme": "kfold", "folds": 4}) == 4
    with pytest.raises(DataError, match="has no folds"):
        folds(card, card.shipped_root, {"scheme": "fraction", "fraction": 0.5})


def test_two_draws_share_what_a_draw_is_of_its_pool() -> None:
    rows = pool(2000, 0.3)
    drawn = [select(rows, {"fraction": 0.2, "seed": 0, "index": index}, "finding") for index in range(6)]
    facts = drawn[0].facts()
    assert (facts["n_units"], facts["n_pool_units"]) == (400, 2000)
    sets = [set(one.rows.patients.tolist()) for one in drawn]
    shared = [len(one & other) / len(one) for place, one in enumerate(sets) for other in sets[:place]]
    assert abs(np.mean(shared) - facts["n_units"] / facts["n_pool_units"]) < 0.02
