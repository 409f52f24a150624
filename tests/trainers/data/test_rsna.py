from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import Card, SplitRule, load_card
from trainers.data.index import image_files, read_index
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.readers.rsna import BOXES, CLASSES, check
from trainers.data.regions import boxes_of
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = load_card("rsna")
BY_PATIENT = load_card("rsna_by_patient")
ONE, TWO, THREE = (f"{digit * 8}-7ca7-4a2d-9c5e-000000000000" for digit in "abc")
NORMAL, OTHER, OPACITY = "Normal", "No Lung Opacity / Not Normal", "Lung Opacity"
LABELS = (f"{ONE},,,,,0", f"{TWO},264,152,213,379.5,1", f"{TWO},562,152,256,453,1", f"{THREE},,,,,0")
KINDS = (f"{ONE},{OTHER}", f"{TWO},{OPACITY}", f"{TWO},{OPACITY}", f"{THREE},{NORMAL}")


def write(root: Path, labels: tuple[str, ...] = LABELS, kinds: tuple[str, ...] = KINDS) -> Path:
    root.mkdir(exist_ok=True)
    (root / BOXES).write_text("\n".join(("patientId,x,y,width,height,Target", *labels, "")), encoding="utf-8")
    (root / CLASSES).write_text("\n".join(("patientId,class", *kinds, "")), encoding="utf-8")
    return root


def fault(root: Path, card: Card = CARD) -> str:
    with pytest.raises(DataError) as error:
        read_index(card, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_image_has_one_class_however_many_boxes(tmp_path: Path) -> None:
    rows = read_index(CARD, write(tmp_path))
    assert rows.images.tolist() == [ONE, TWO, THREE]
    np.testing.assert_array_equal(rows.labels, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert rows.label_names == ("normal", "no_lung_opacity_not_normal", "lung_opacity")


def test_boxes(tmp_path: Path) -> None:
    found = boxes_of(locate(CARD, lambda place: write(tmp_path)))
    assert (found.images.tolist(), set(found.labels.tolist())) == ([TWO, TWO], {"lung_opacity"})
    np.testing.assert_array_equal(found.corners, [[264, 152, 477, 531.5], [562, 152, 818, 605]])


@pytest.mark.parametrize(
    ("labels", "kinds", "message"),
    [
        (LABELS, (*KINDS[:3], f"{THREE},normal"), "csv:5: class 'normal' is none of Normal, "),
        (LABELS, (*KINDS, f"{TWO},{NORMAL}"), f"csv:6: {TWO} is 'Normal', and 'Lung Opacity' at "),
        (LABELS[:3], KINDS, f"{CLASSES} has {THREE}, and {BOXES} has not (and 0 more)"),
        (LABELS, KINDS[1:], f"{BOXES} has {ONE}, and {CLASSES} has not"),
        ((LABELS[0], *LABELS[2:], f"{TWO},,,,,0"), KINDS, f"csv:5: {TWO} has Target 0 and 1"),
        ((f"{ONE},1,2,3,4,1", *LABELS[1:]), KINDS, f"csv:2: {ONE} is '{OTHER}', and its Target in {BOXES} says otherwise"),
        ((f"{ONE},,,,,", *LABELS[1:]), KINDS, "csv:2: 'Target' is '', and may be 0 or 1"),
    ],
)
def test_tables_that_do_not_fit_each_other(tmp_path: Path, labels: tuple[str, ...], kinds: tuple[str, ...], message: str) -> None:
    assert message in fault(write(tmp_path, labels, kinds))


@pytest.mark.parametrize("place", ["stage_2_train_images/{}.dcm", "stage_2_train_images_png/{}.png", "images/{}.jpg", "{}.png"])
def test_an_image_is_found_whatever_it_was_converted_to(tmp_path: Path, place: str) -> None:
    file = write(tmp_path) / place.format(ONE)
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert image_files(CARD, tmp_path, [ONE, TWO]) == [file, tmp_path / "stage_2_train_images" / f"{TWO}.dcm"]


def test_the_dicom_comes_before_its_conversion(tmp_path: Path) -> None:
    (write(tmp_path) / "images").mkdir()
    for end in (".png", ".dcm"):
        (tmp_path / "images" / f"{ONE}{end}").touch()
    assert image_files(CARD, tmp_path, [ONE]) == [tmp_path / "images" / f"{ONE}.dcm"]


def test_published_lists_are_of_png_files(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    for name, line in {"train": f"{ONE}.png 1", "val": f"{TWO}.png 2", "test": f"{THREE}.png 0"}.items():
        (root / f"{name}.txt").write_text(line + "\n", encoding="utf-8")
    card = replace(CARD, splits=SplitRule(lists={"train": "train.txt", "val": "val.txt", "test": "test.txt"}))
    assert split_of(card, read_index(card, root), root).tolist() == ["train", "val", "test"]


def mapped(root: Path, content: object) -> Path:
    (write(root) / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def test_the_mapping_says_who_the_patients_are(tmp_path: Path) -> None:
    images = {ONE: "00000007_000.png", TWO: "00000007_003.png", THREE: "00012345_001.png"}
    root = mapped(tmp_path, [{"subset_img_id": image, "img_id": name, "orig_labels": []} for image, name in images.items()])
    assert read_index(BY_PATIENT, root).patients.tolist() == ["7", "7", "12345"]
    assert read_index(CARD, root).patients.tolist() == [ONE, TWO, THREE]


@pytest.mark.parametrize("content", [{}, [{"subset_img_id": ONE}], [{"subset_img_id": ONE, "img_id": "x.png"}], [1]])
def test_a_mapping_that_is_none(tmp_path: Path, content: object) -> None:
    message = fault(mapped(tmp_path, content), BY_PATIENT)
    assert "is no mapping of RSNA's" in message or "is not in pneumonia-challenge-dataset-mappings_2018.json" in message


def test_no_patient_of_made_data_is_in_two_splits(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_train=30, px=32), "rsna")
    rows = read_index(BY_PATIENT, made.root)
    assert len(np.unique(rows.patients)) == 30 < len(rows)
    split = split_of(BY_PATIENT, rows, made.root)
    assert all(len(set(split[rows.patients == patient])) == 1 for patient in np.unique(rows.patients))


def test_wrong_options_say_what() -> None:
    assert check(replace(CARD, options={"maping": "x"})) == ".maping: unknown key; it has mapping"
    assert check(replace(CARD, options={"mapping": "x.json"})) == ".mapping: 'x.json' is none of label_files"
