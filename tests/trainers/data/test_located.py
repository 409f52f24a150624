"""A card with its place, lists of splits, and unions of cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.data.layouts import rows_from, write_chexpert
from trainers.data.access import Rows
from trainers.data.cards import Card, SplitRule, card_digest, load_card
from trainers.data.index import label_digests
from trainers.data.located import Located, locate
from trainers.data.open import open_data
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = replace(load_card("chexpert"), name="toy", labels={"finding": "Finding"}, primary="finding")
UNION = """
name: pool
title: A pool
task: unlabelled
members: {one: [train], two: [train, test]}
splits: {official: {"": train}}
"""


def listed(folder: Path, unlisted: str = "refuse", **lists: str) -> tuple[Card, Rows]:
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    rule = SplitRule(lists={name: f"{name}.txt" for name in lists}, unlisted=unlisted)  # type: ignore[arg-type]
    return replace(CARD, splits=rule), rows_from(["p1", "p2", "p3"], [1, 0, 1])


def test_lists_name_images_by_path_or_by_file_name_and_nothing_after_it_is_read(tmp_path: Path) -> None:
    card, rows = listed(tmp_path, train="image00000.png 1 0\r\n\r\n", val="train/p2/image00001,0\n", test="image00002\t1")
    rows = replace(rows, images=np.array(["train/p1/image00000.png", "train/p2/image00001", "image00002"]))
    assert split_of(card, rows, tmp_path).tolist() == ["train", "val", "test"]


def test_a_list_of_a_conversion_names_images_with_another_end(tmp_path: Path) -> None:
    card, rows = listed(tmp_path, train="a1b2.png 2\n", val="train_jpeg/c3d4 0 1\r\n", test="test/e5.6.7.jpg\n")
    rows = replace(rows, images=np.array(["a1b2", "c3d4", "e5.6.7"]))
    assert split_of(card, rows, tmp_path).tolist() == ["train", "val", "test"]


def test_a_list_that_names_a_folder_is_of_no_image_in_another(tmp_path: Path) -> None:
    card, rows = listed(tmp_path, train="study1/view1.jpg\n")
    rows = replace(rows, images=np.array(["study2/view1.jpg", "study2/view2.jpg", "study3/view3.jpg"]))
    with pytest.raises(DataError, match=r"train\.txt:1: study1/view1\.jpg is no image of 'toy'"):
        split_of(card, rows, tmp_path)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": "image00000\nimage00001\n", "test": "image00001\nimage00002"}, r"test\.txt:1: image00001 is in the list of 'train' too"),
        ({"train": "image00000\nimage9\n"}, r"train\.txt:2: image9 is no image of 'toy'"),
        ({"train": "image00000\n"}, r"train/p2/image00001 is in no list \(and 1 more\); write `unlisted: leave_out`"),
    ],
)
def test_a_wrong_list_says_where(tmp_path: Path, lists: dict[str, str], message: str) -> None:
    card, rows = listed(tmp_path, **lists)
    with pytest.raises(DataError, match=message):
        split_of(card, rows, tmp_path)


def test_a_file_name_of_several_images_is_refused(tmp_path: Path) -> None:
    card, rows = listed(tmp_path, train="image.png\n")
    rows = replace(rows, images=np.array(["a/image.png", "b/image.png", "c/other.png"]))
    with pytest.raises(DataError, match=r"image\.png is named by several images; write its path as a/image\.png has it"):
        split_of(card, rows, tmp_path)


def test_patients_of_two_lists_are_refused_and_left_out_rows_are_not_looked_at(tmp_path: Path) -> None:
    card, _ = listed(tmp_path, "leave_out", train="image00000\n", test="image00001")
    with pytest.raises(DataError, match="1 patients are in more than one split: p1"):
        split_of(card, rows_from(["p1", "p1", "p3"], [1, 0, 1]), tmp_path)
    assert split_of(card, rows_from(["p1", "p2", "p1"], [1, 0, 1]), tmp_path).tolist() == ["train", "test", ""]


def test_a_patient_of_which_an_image_is_left_out_is_still_carved_by_hash(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(40) for _ in range(2)]
    rows = rows_from(names, [1, 0] * 40)
    (tmp_path / "train.txt").write_text("\n".join(rows.images[1::2]), encoding="utf-8")
    card = replace(CARD, splits=SplitRule(lists={"train": "train.txt"}, unlisted="leave_out", patients_by_hash={"test": 0.3}))
    split = split_of(card, rows, tmp_path)
    assert (split[::2] == "").all() and set(split[1::2]) == {"train", "test"}


def test_what_the_data_says_is_mapped_and_what_it_does_not_say_is_refused() -> None:
    rows = replace(rows_from(["p1", "p2", "p3"], [1, 0, 1]), given=np.array(["train", "validate", "test"]))
    card = replace(CARD, splits=SplitRule(given={"train": "train", "validate": "val"}))
    with pytest.raises(DataError, match=r"the data says 'test', and splits\.given knows 'train', 'validate'"):
        split_of(card, rows)
    left = replace(card, splits=replace(card.splits, unlisted="leave_out"))
    assert split_of(left, rows).tolist() == ["train", "val", ""]
    with pytest.raises(DataError, match="the data says nothing"):
        split_of(card, rows_from(["p1"], [1]))


def test_a_list_is_looked_for_beside_the_card_and_its_digest_is_asked_for(tmp_path: Path) -> None:
    root = write_chexpert(tmp_path / "data")
    cards = tmp_path / "cards"
    cards.mkdir()
    text = Path(load_card("chexpert").folder, "chexpert.yaml").read_text(encoding="utf-8")
    splits = 'splits: {lists: {train: mine.txt}, unlisted: leave_out}\nsha256: {mine.txt: "' + "0" * 64 + '"}\n'
    before, after = text.index("splits:"), text.index("traits:")
    (cards / "mine.yaml").write_text(text[:before].replace("name: chexpert", "name: mine") + splits + text[after:], encoding="utf-8")
    card = load_card("mine", [cards])
    with pytest.raises(DataError, match=r"has no list mine\.txt in .*data nor beside its card in .*cards"):
        label_digests(card, root)
    (cards / "mine.txt").write_text("train/patient00001/study1/view1_frontal.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mine\.txt is not the file that card 'mine' names"):
        label_digests(card, root)
    found = label_digests(replace(card, sha256={}), root)
    assert set(found) == {"train.csv", "valid.csv", "mine.txt"}


@pytest.fixture
def pool(tmp_path: Path) -> Located:
    for name in ("one", "two"):
        write_chexpert(tmp_path / name, patients=6)
        text = Path(load_card("chexpert").folder, "chexpert.yaml").read_text(encoding="utf-8")
        (tmp_path / "cards").mkdir(exist_ok=True)
        (tmp_path / "cards" / f"{name}.yaml").write_text(text.replace("name: chexpert", f"name: {name}"), encoding="utf-8")
    (tmp_path / "cards" / "pool.yaml").write_text(UNION, encoding="utf-8")
    return locate(load_card("pool", [tmp_path / "cards"]), lambda place: tmp_path / place, [tmp_path / "cards"])


def test_a_union_has_the_splits_of_its_members_that_it_names_and_no_other(pool: Located) -> None:
    rows = pool.index()
    parts = {name: member.index().take(np.isin(member.split_of(member.index()), splits))
             for (name, member), splits in zip(pool.members.items(), (["train"], ["train", "test"]), strict=True)}  # fmt: skip
    assert rows.images.tolist() == sorted(f"{name}/{image}" for name, part in parts.items() for image in part.images)
    assert rows.position.tolist() == list(range(len(rows))) and rows.labels.shape == (len(rows), 0)
    assert not any(image.startswith("one/valid/") for image in rows.images) and any(image.startswith("two/valid/") for image in rows.images)
    # Patients of two data sets are two patients, whatever they are called.
    assert len(np.unique(rows.patients)) == sum(len(np.unique(part.patients)) for part in parts.values())
    assert all(file.is_file() for file in pool.files(rows.images.tolist()))


def test_the_digests_of_a_union_are_those_of_its_members_and_their_cards(pool: Located) -> None:
    found = pool.label_digests()
    assert set(found) == {f"{name}: {file}" for name in ("one", "two") for file in ("card", "train.csv", "valid.csv")}
    assert found["one: card"] == card_digest(pool.members["one"].card) != found["two: card"]


def test_a_union_opens_as_one_data_set(pool: Located, tmp_path: Path) -> None:
    source = {"card": "pool", "card_sha256": card_digest(pool.card), "files": pool.label_digests()}
    access = open_data(source, {"count": 3}, lambda place: tmp_path / place, tmp_path / "cache", lambda split: True, [tmp_path / "cards"])
    rows = access.rows("train")
    assert len(np.unique(rows.patients)) == 3 and access.find("val") is None
    assert min(access.images(16).image(position).shape == (16, 21) for position in rows.position)


def test_a_union_of_unions_and_a_member_without_rows_are_refused(pool: Located, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    (cards / "pools.yaml").write_text(UNION.replace("name: pool", "name: pools").replace("one:", "pool:"), encoding="utf-8")
    with pytest.raises(DataError, match=r"members\.pool is a union itself"):
        locate(load_card("pools", [cards]), lambda place: tmp_path / place, [cards])
    with pytest.raises(DataError, match=r"data set 'one' at .* has no row in "):
        pool.members["one"].part("one", [])


BAD = {
    "both": (
        'splits: {official: {"": train}}',
        'splits: {official: {"": train}, given: {a: train}}',
        "splits: write one of official",
    ),
    "none": ('splits: {official: {"": train}}', "splits: {salt: a}", "splits: write one of official, given and lists"),
    "itself": ("{one:", "{pool:", "members.pool: a union is no member of itself"),
    "empty": ("[train, test]", "[]", "members.two: names no split"),
    "reader": ("task:", "reader: chexpert\ntask:", "reader: a union has the readers of its members"),
    "files": ("task:", "label_files: [a.csv]\ntask:", "members: a union has the files of its members"),
    "labels": ("task: unlabelled", "task: unlabelled\nlabels: {a: A}", "labels: a data set without labels (task: unlabelled) names none"),
    "no label": ("task: unlabelled\n", "", "labels: there is none; a data set without labels says `task: unlabelled`"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_wrong_union_says_what(tmp_path: Path, case: str) -> None:
    old, new, message = BAD[case]
    assert old in UNION
    (tmp_path / "pool.yaml").write_text(UNION.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError) as error:
        load_card("pool", [tmp_path])
    assert message in str(error.value)
