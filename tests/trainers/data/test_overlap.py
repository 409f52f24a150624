"""What training on one card has seen of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainers.data.cards import Card, SplitRule, load_card
from trainers.data.overlap import overlap

BASE = replace(load_card("chexpert"), label_files=("labels.csv",), made={}, contamination=())


def card(name: str, *, official: dict[str, str] | None = None, **changes: object) -> Card:
    rule = SplitRule(official=official or {"train/": "train", "test/": "test"})  # type: ignore[arg-type]
    return replace(BASE, **{"name": name, "splits": rule, **changes})  # type: ignore[arg-type]


CARDS = {
    one.name: one
    for one in (
        card("nih"),
        card("rsna", contamination=("nih",)),
        card("nih_by_patient", root="nih", splits=SplitRule(official={"": "train"}, patients_by_hash={"val": 0.1, "test": 0.2})),
        card("nih_other_labels", root="nih"),
        card("nih_findings", root="nih", label_files=("boxes.csv",)),
        card("nih_listed", root="nih", splits=SplitRule(lists={"train": "train.txt", "test": "test.txt"})),
        card("shenzhen"),
        card("far"),
        card("pool", official={"": "train"}, members={"nih": ("train",), "shenzhen": ("train", "test")}, label_files=(), reader=""),
        card("deep", official={"": "train"}, members={"rsna": ("train",)}, label_files=(), reader=""),
        card("apart", official={"nih/": "test", "far/": "train"}, members={"nih": ("test",), "far": ("train",)}, label_files=()),
    )
}


def seen(trained: str, tested: str, split: str = "test") -> str:
    return overlap(CARDS[trained], CARDS[tested], split, CARDS.__getitem__)


@pytest.mark.parametrize(
    ("trained", "tested", "why"),
    [
        ("rsna", "nih", "card 'rsna' says that images of 'nih' are in it"),
        # Images that are in both are so whichever of the two is trained on.
        ("nih", "rsna", "card 'rsna' says that images of 'nih' are in it"),
        ("pool", "shenzhen", "'pool' holds test and train of 'shenzhen'"),
        ("pool", "rsna", "card 'rsna' says that images of 'nih' are in it, which 'pool' holds"),
        ("deep", "nih", "card 'rsna' says that images of 'nih' are in it, which 'deep' holds"),
        ("nih_by_patient", "nih", "'nih_by_patient' and 'nih' are the same images, split in two ways"),
        ("nih", "nih_by_patient", "'nih' and 'nih_by_patient' are the same images, split in two ways"),
        ("nih_listed", "nih", "'nih_listed' and 'nih' are the same images, split in two ways"),
        # A relative of a card in the same place is related too.
        ("rsna", "nih_by_patient", "card 'rsna' says that images of 'nih_by_patient' are in it"),
        ("nih", "apart", ""),
        ("apart", "far", ""),
        # A union that holds no more than the training part has seen no test image of it.
        ("pool", "nih", ""),
        ("nih", "nih_other_labels", ""),
        ("nih_findings", "nih", ""),
        ("nih", "nih", ""),
        ("pool", "far", ""),
    ],
)
def test_what_is_seen(trained: str, tested: str, why: str) -> None:
    assert seen(trained, tested) == why


def test_validation_images_were_seen_and_held_out_ones_are_those_of_training() -> None:
    assert seen("pool", "shenzhen", "val") == ""
    assert seen("nih_by_patient", "nih", "train") != ""
    assert seen("nih", "nih_other_labels", "held_out") == "'nih' and 'nih_other_labels' are the same images, split in two ways"
    assert seen("far", "shenzhen", "held_out") == ""


def test_ways_to_split_by_hash_are_compared() -> None:
    one = card("one", root="one", splits=SplitRule(official={"": "train"}, patients_by_hash={"test": 0.2}, salt="s"))
    same = replace(one, name="two")
    other = replace(one, name="three", splits=replace(one.splits, salt="t"))
    assert overlap(one, same, "test", CARDS.__getitem__) == ""
    assert overlap(one, other, "test", CARDS.__getitem__) == "'one' and 'three' are the same images, split in two ways"


def test_the_two_cards_of_chexpert_share_no_test_image_with_the_other_training_part() -> None:
    plain, official = load_card("chexpert"), load_card("chexpert_official_test")
    assert overlap(plain, official, "test", load_card) == overlap(plain, official, "val", load_card) == ""
    # The official validation set, which one scores on, is what the other chooses by.
    assert "split in two ways" in overlap(official, plain, "test", load_card)
