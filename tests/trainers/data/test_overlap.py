"""What training on one card has seen of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trainers.data.cards import Card, SplitRule, list_cards, load_card
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
        ("pool", "shenzhen", "'pool' holds train and test of 'shenzhen'"),
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


# --- the cards that come along

SHIPPED = {name: load_card(name) for name in list_cards()}


def test_cards_name_cards_that_there_are() -> None:
    assert not {(card.name, name) for card in SHIPPED.values() for name in card.contamination if name not in SHIPPED}


@pytest.mark.parametrize("trained", ["rsna", "siim", "chestxdet10", "covidx", "covid19_radiography"])
def test_sets_that_were_made_of_others_images_are_known(trained: str) -> None:
    for tested in ("chestxray14", "chestxray14_702010"):
        for one, other in ((trained, tested), (tested, trained)):
            assert "are in it" in overlap(SHIPPED[one], SHIPPED[other], "test", SHIPPED.__getitem__)


@pytest.mark.parametrize(
    ("trained", "tested"),
    [("shenzhen", "shenzhen_lungs"), ("mimic_cxr", "mimic_cxr_negbio"), ("vindr", "vindr_28"), ("montgomery_tb", "montgomery")],
)
def test_other_labels_on_the_same_splits_are_no_contamination(trained: str, tested: str) -> None:
    for split in ("val", "test"):
        assert overlap(SHIPPED[trained], SHIPPED[tested], split, SHIPPED.__getitem__) == ""
    # A fold holds out training images, of which another card's training knows nothing.
    assert "the same images" in overlap(SHIPPED[trained], SHIPPED[tested], "held_out", SHIPPED.__getitem__)


@pytest.mark.parametrize(("trained", "tested"), [("jsrt", "jsrt_lung"), ("kermany", "kermany_official"), ("rsna", "rsna_by_patient")])
def test_other_splits_of_the_same_images_are(trained: str, tested: str) -> None:
    assert overlap(SHIPPED[trained], SHIPPED[tested], "test", SHIPPED.__getitem__) != ""


def test_unrelated_sets_may_be_crossed() -> None:
    sets = ("chexpert", "chestxray14", "mimic_cxr", "vindr", "shenzhen", "padchest", "openi", "jsrt")
    assert not [(one, other) for one in sets for other in sets if overlap(SHIPPED[one], SHIPPED[other], "test", SHIPPED.__getitem__)]


def test_a_union_with_the_test_part_of_a_card_has_seen_it_under_every_name() -> None:
    pool = card("pool", official={"": "train"}, members={"shenzhen": ("train", "test")}, label_files=())
    assert overlap(pool, SHIPPED["shenzhen"], "test", SHIPPED.__getitem__) == "'pool' holds train and test of 'shenzhen'"
    why = overlap(pool, SHIPPED["shenzhen_lungs"], "test", SHIPPED.__getitem__)
    assert why == "'shenzhen' and 'shenzhen_lungs' are the same images, and 'pool' holds train and test of 'shenzhen'"
    clean = card("pool", official={"": "train"}, members={"shenzhen": ("train",)}, label_files=())
    assert overlap(clean, SHIPPED["shenzhen_lungs"], "test", SHIPPED.__getitem__) == ""


@pytest.mark.parametrize("tested", ["shenzhen", "jsrt", "montgomery_tb", "rsna", "openi"])
def test_the_pool_of_the_benchmark_holds_test_images(tested: str) -> None:
    why = overlap(SHIPPED["xrays_926k"], SHIPPED[tested], "test", SHIPPED.__getitem__)
    assert why == f"'xrays_926k' holds train and val and test of '{tested}'"


@pytest.mark.parametrize(("tested", "through"), [("chestxray14", "rsna"), ("siim", "chestxray14"), ("montgomery", "montgomery_tb")])
def test_a_pool_inherits_what_its_members_share(tested: str, through: str) -> None:
    why = overlap(SHIPPED["xrays_926k"], SHIPPED[tested], "test", SHIPPED.__getitem__)
    assert f"'{through}'" in why and "'xrays_926k' holds" in why


@pytest.mark.parametrize("tested", ["chexpert", "vindr"])
def test_a_pool_that_holds_no_test_part_and_no_relative_is_clean(tested: str) -> None:
    assert overlap(SHIPPED["xrays_926k"], SHIPPED[tested], "test", SHIPPED.__getitem__) == ""
