from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import load_card
from trainers.data.index import image_files, read_index
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.regions import boxes_of
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = load_card("chestxdet10")
FIBROSIS = {"file_name": "00000042_006.png", "syms": ["Fibrosis", "Effusion"], "boxes": [[632, 721, 909, 969], [129, 611, 474, 909]]}
NOTHING = {"file_name": "36199.png", "syms": [], "boxes": []}


def write(root: Path, train: object = (FIBROSIS, NOTHING), test: object = ({**NOTHING, "file_name": "36200.png"},)) -> Path:
    for name, content in {"train": train, "test": test}.items():
        (root / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def fault(root: Path) -> str:
    with pytest.raises(DataError) as error:
        read_index(CARD, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_findings_patients_and_splits(tmp_path: Path) -> None:
    rows = read_index(CARD, write(tmp_path))
    assert rows.images.tolist() == ["00000042_006.png", "36199.png", "36200.png"]
    # NIH's table has the patient as a number.
    assert rows.patients.tolist() == ["42", "36199", "36200"]
    found = [[name for name, value in zip(rows.label_names, row, strict=True) if value == 1] for row in rows.labels]
    assert found == [["pleural_effusion", "fibrosis"], [], []]
    assert set(split_of(CARD, rows).tolist()) == {"train", "val", "test"}
    assert rows.given is not None
    assert rows.given.tolist() == ["train", "train", "test"]


def test_boxes_are_corners(tmp_path: Path) -> None:
    found = boxes_of(locate(CARD, lambda place: write(tmp_path)))
    assert found.labels.tolist() == ["fibrosis", "pleural_effusion"]
    np.testing.assert_array_equal(found.corners, FIBROSIS["boxes"])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"syms": ["Infiltration", "Mass"]}, "entry 1: 'Infiltration' is none of Atelectasis"),
        ({"syms": ["Mass"]}, "entry 1: syms and boxes are two lists of one length"),
        ({"boxes": [[1, 2, 3], [1, 2, 3, 4]]}, "entry 1: a box is four numbers"),
        ({"boxes": [["1", 2, 3, 4], [1, 2, 3, 4]]}, "entry 1: a box is four numbers"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    assert f"train.json: {message}" in fault(write(tmp_path, ({**FIBROSIS, **entry},)))


@pytest.mark.parametrize(("text", "message"), [("{", "train.json:1: is not JSON"), ("{}", "train.json: is no list of images")])
def test_a_file_that_is_no_list(tmp_path: Path, text: str, message: str) -> None:
    (write(tmp_path) / "train.json").write_text(text, encoding="utf-8")
    assert message in fault(tmp_path)
    (tmp_path / "train.json").write_text('[{"file_name": "1.png"}]', encoding="utf-8")
    assert "train.json: entry 1: has no file_name, syms and boxes" in fault(tmp_path)


def test_an_image_twice(tmp_path: Path) -> None:
    assert "36199.png is already named at train.json: entry 2" in fault(write(tmp_path, test=(NOTHING,)))


@pytest.mark.parametrize("folder", ["train_data", "test_data", "train_data/train_data", "images"])
def test_an_image_is_found_where_it_was_unpacked(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "36199.png").touch()
    assert image_files(CARD, write(tmp_path), ["36199.png"]) == [tmp_path / folder / "36199.png"]


def test_made_boxes_are_of_what_is_labelled(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_train=12, patients_valid=6, px=64, source=1), "chestxdet10")
    place = locate(CARD, lambda place: made.root)
    rows, found = place.index(), boxes_of(place)
    pairs = set(zip(found.images.tolist(), found.labels.tolist(), strict=True))
    marked = {
        (image, name)
        for image, row in zip(rows.images.tolist(), rows.labels, strict=True)
        for name, value in zip(rows.label_names, row, strict=True)
        if value == 1
    }
    assert pairs == marked
    assert pairs
