"""Shenzhen and Montgomery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.trainers.data.readers.made import made, placed
from trainers.data.card_checks import problem_of
from trainers.data.cards import load_card
from trainers.data.readings import tuberculosis, who
from trainers.data.regions import masks_of
from trainers.errors import DataError


def save(path: Path, value: int = 0, shape: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("male 45yrs\r\nnormal\r\n", ("M", "45")),
        ("Female14yrs\nSTB", ("F", "14")),
        ("femal 32yrs\nnormal", ("F", "32")),
        ("male 16month\nnormal", ("M", "1.33")),
        ("female 64days\nnormal", ("F", "0.175")),
        ("Patient's Sex: F\nPatient's Age: 027Y\nnormal", ("F", "27")),
        ("Patient's Sex: M\r\nPatient's Age: 008M\r\nleft upper lobe", ("M", "0.667")),
        ("male\n\n40yrs\nnormal", ("M", "40")),
        ("scars in the left apex", ("", "")),
        ("", ("", "")),
    ],
)
def test_a_reading_says_who_the_patient_is(tmp_path: Path, text: str, expected: tuple[str, str]) -> None:
    (tmp_path / "r.txt").write_text(text, encoding="utf-8")
    assert tuple(who(tmp_path / "r.txt").values()) == expected


def test_a_reading_that_is_not_there_or_has_a_stray_byte(tmp_path: Path) -> None:
    assert who(tmp_path / "none.txt") == {"sex": "", "age": ""}
    (tmp_path / "r.txt").write_bytes(b"male 45yrs\xa0\nnormal\xff")
    assert who(tmp_path / "r.txt") == {"sex": "M", "age": "45"}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("male 45yrs\nnormal", 0.0),
        ("male 45yrs\nSTB", 1.0),
        ("male 45yrs\nright pleuritis\nnormal", 0.0),  # the last line decides
        ("male 45yrs\ntuberculosis", 0.0),  # none of its words: negative, although the file's name says 1
        ("male 45yrs\n", 0.0),
    ],
)
def test_labels_from_readings_follow_moco_cxr(tmp_path: Path, text: str, label: float) -> None:
    (tmp_path / "r.txt").write_text(text, encoding="utf-8")
    assert tuberculosis(tmp_path / "r.txt") == label


def test_the_name_is_the_label_and_an_option_reads_the_reading_instead(tmp_path: Path) -> None:
    for name, text in (("CHNCXR_0001_0", "normal"), ("CHNCXR_0002_1", "STB"), ("CHNCXR_0003_1", "tuberculosis")):
        save(tmp_path / "CXR_png" / f"{name}.png")
        (tmp_path / "ClinicalReadings").mkdir(exist_ok=True)
        (tmp_path / "ClinicalReadings" / f"{name}.txt").write_text(f"male 45yrs\n{text}\n", encoding="utf-8")
    place = placed("shenzhen", tmp_path)
    rows = place.index()
    assert rows.images.tolist() == ["CHNCXR_0001_0.png", "CHNCXR_0002_1.png", "CHNCXR_0003_1.png"]
    assert rows.patients.tolist() == ["CHNCXR_0001", "CHNCXR_0002", "CHNCXR_0003"]
    assert rows.labels[:, 0].tolist() == [0, 1, 1]
    departure = replace(place.card, options={"labels_from": "readings"}, label_files=("ClinicalReadings/*.txt",))
    assert problem_of(departure) is None
    assert replace(place, card=departure).index().labels[:, 0].tolist() == [0, 1, 0]
    (tmp_path / "ClinicalReadings" / "CHNCXR_0003_1.txt").unlink()
    assert place.index().traits["age"].tolist() == ["45", "45", ""]
    with pytest.raises(DataError, match=r"CHNCXR_0003_1\.txt is missing, and `labels_from: readings` reads it"):
        replace(place, card=departure).index()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"label_from": "name"}, "options.label_from: unknown key; there is labels_from"),
        ({"labels_from": "notes"}, "options.labels_from: is 'notes', and may be name or readings"),
        ({"labels_from": "readings"}, "label_files has to name ClinicalReadings/*.txt"),
    ],
)
def test_wrong_options_say_what(options: dict[str, str], problem: str) -> None:
    assert problem in str(problem_of(replace(load_card("shenzhen"), options=options)))


def test_a_name_without_a_label_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "CXR_png" / "CHNCXR_0001.png")
    with pytest.raises(DataError, match=r"CHNCXR_0001\.png: the name does not end in _0 \(normal\) or _1"):
        placed("shenzhen", tmp_path).index()


def test_lists_of_ones_own_name_images_with_their_label(tmp_path: Path) -> None:
    for number in range(1, 5):
        save(tmp_path / "CXR_png" / f"CHNCXR_000{number}_{number % 2}.png")
    (tmp_path / "train.txt").write_text("CHNCXR_0001_1.png,1\nCHNCXR_0002_0.png,0\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text("CHNCXR_0003_1.png,1\nCHNCXR_0004_0.png,0\n", encoding="utf-8")
    rule = replace(load_card("shenzhen").splits, official={}, patients_by_hash={}, lists={"train": "train.txt", "test": "test.txt"})
    place = placed("shenzhen", tmp_path, splits=rule)
    assert place.split_of(place.index()).tolist() == ["train", "train", "test", "test"]


def test_lungs_are_the_left_or_the_right_mask(tmp_path: Path) -> None:
    save(tmp_path / "MontgomerySet" / "CXR_png" / "MCUCXR_0001_0.png")
    left, right = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    # 128 + 128 is 0 in uint8, and 255 + 255 is 254: what is in both masks is lung nonetheless.
    left[1:3], right[2:5] = 128, 128
    for side, mask in (("left", left), ("right", right)):
        path = tmp_path / "MontgomerySet" / "ManualMask" / f"{side}Mask" / "MCUCXR_0001_0.png"
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), mask)
    place = placed("montgomery", tmp_path)
    found = masks_of(place, "MCUCXR_0001_0.png")["lungs"]
    np.testing.assert_array_equal(found, (left > 0) | (right > 0))
    assert found.dtype == np.uint8 and masks_of(place, "MCUCXR_0001_0.png", (12, 16))["lungs"].shape == (12, 16)
    path.unlink()
    with pytest.raises(DataError, match=r"rightMask/MCUCXR_0001_0\.png is missing, and that of the other lung is there"):
        masks_of(place, "MCUCXR_0001_0.png")


def test_masks_of_two_shapes_and_broken_ones_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "CXR_png" / "MCUCXR_0001_0.png")
    save(tmp_path / "ManualMask" / "leftMask" / "MCUCXR_0001_0.png")
    save(tmp_path / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png", shape=(6, 9))
    place = placed("montgomery", tmp_path)
    with pytest.raises(DataError, match="masks of one image have one shape"):
        masks_of(place, "MCUCXR_0001_0.png")
    (tmp_path / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"MCUCXR_0001_0\.png cannot be decoded"):
        masks_of(place, "MCUCXR_0001_0.png")


def test_the_cards_of_one_set_split_alike(tmp_path: Path) -> None:
    for names in (("shenzhen", "shenzhen_lungs"), ("montgomery", "montgomery_tb")):
        place = made(tmp_path, load_card(names[0]), patients_train=60, patients_valid=0)
        split: dict[str, set[str]] = {}
        for name in names:
            one = replace(place, card=load_card(name))
            for image, found in zip(one.index().images.tolist(), one.split_of(one.index()).tolist(), strict=True):
                split.setdefault(image, set()).add(found)
        assert all(len(found) == 1 for found in split.values()) and len(split) == 60


def test_five_of_six_made_shenzhen_images_have_a_mask(tmp_path: Path) -> None:
    place = made(tmp_path, load_card("shenzhen"), patients_train=12, patients_valid=0)
    images = place.index().images.tolist()
    assert sum(bool(masks_of(place, image)) for image in images) == 10
    assert len(replace(place, card=load_card("shenzhen_lungs")).index()) == 10
