from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.data.layouts import rows_from
from trainers.data.access import Rows
from trainers.data.cards import SplitRule, load_card
from trainers.data.index import read_index
from trainers.data.splits import hash_share, split_of
from trainers.errors import DataError

CARD = replace(load_card("chexpert"), name="toy", labels={"finding": "Finding"}, primary="finding")


def rule(**shares: float) -> SplitRule:
    return SplitRule(official={"train/": "train", "valid/": "test"}, patients_by_hash=shares, salt="toy")


@settings(max_examples=200, deadline=None)
@given(
    patients=st.lists(st.integers(0, 60), min_size=3, max_size=120).filter(lambda found: len(set(found)) >= 3),
    val=st.floats(0.01, 0.5),
    test=st.floats(0.01, 0.4),
    order=st.randoms(use_true_random=False),
)
def test_patients_never_cross_whatever_the_order_of_rows(patients: list[int], val: float, test: float, order: object) -> None:
    names = [f"patient{number:05d}" for number in patients]
    rows = rows_from(names, [0.0] * len(names))
    card = replace(CARD, splits=rule(val=val, test=test))
    split = split_of(card, rows)
    of_patient = {name: set(split[rows.patients == name].tolist()) for name in names}
    assert all(len(found) == 1 for found in of_patient.values())
    assert set(split.tolist()) == {"train", "val", "test"}
    shuffled = list(range(len(names)))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split_of(card, rows.take(np.array(shuffled))).tolist() == split[shuffled].tolist()


def test_a_share_by_hash_is_about_that_share_and_the_same_for_ever() -> None:
    names = [f"patient{number:05d}" for number in range(20_000)]
    split = split_of(replace(CARD, splits=rule(val=0.1)), rows_from(names, [0.0] * len(names)))
    assert abs((split == "val").mean() - 0.1) < 4 * np.sqrt(0.09 / 20_000)
    # Numbers that must not move: they decide which patients every stored result was validated on.
    assert [name for name, where in zip(names[:60], split, strict=False) if where == "val"] == [
        name for name in names[:60] if hash_share("toy", name) < 0.1
    ]
    assert hash_share("chexpert", "patient00001") == pytest.approx(0.2604881889755444, abs=1e-12)


def test_a_patient_stays_in_its_split_when_others_come() -> None:
    few = [f"patient{number:05d}" for number in range(200)]
    many = few + [f"patient{number:05d}" for number in range(1000, 1400)]
    card = replace(CARD, splits=rule(val=0.2))
    before = split_of(card, rows_from(few, [0.0] * len(few)))
    after = split_of(card, rows_from(many, [0.0] * len(many)))
    assert after[: len(few)].tolist() == before.tolist()


def crossing() -> Rows:
    train, valid = rows_from(["a", "b", "c"], [0, 0, 0]), rows_from(["c", "d", "a"], [0, 0, 0], prefix="valid/")
    parts = {
        name: np.concatenate([getattr(train, name), getattr(valid, name)])
        for name in ("images", "patients", "studies", "views", "labels", "position")
    }
    return replace(train, **parts)


def test_official_splits_that_share_patients_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 patients are in more than one split: a \(test and train\), c \(test and train\)"):
        split_of(replace(CARD, splits=rule()), crossing())


def test_an_image_without_a_split_is_named() -> None:
    with pytest.raises(DataError, match="toy': other/a/image00000 is in no split"):
        split_of(replace(CARD, splits=rule()), rows_from(["a"], [0], prefix="other/"))


def test_the_longest_start_counts() -> None:
    card = replace(CARD, splits=SplitRule(official={"": "train", "train/b": "test"}))
    assert split_of(card, rows_from(["a", "b"], [0, 0])).tolist() == ["train", "test"]


def test_one_training_patient_is_too_few_for_a_validation_split() -> None:
    with pytest.raises(DataError, match="too few for splits val besides train"):
        split_of(replace(CARD, splits=rule(val=0.1)), rows_from(["a"], [0]))


def test_chexpert_tests_on_the_official_validation_set(chexpert: Path) -> None:
    card = load_card("chexpert")
    rows = read_index(card, chexpert)
    split = split_of(card, rows)
    assert set(split[np.char.startswith(rows.images, "valid/")]) == {"test"}
    assert set(split[np.char.startswith(rows.images, "train/")]) == {"train", "val"}
