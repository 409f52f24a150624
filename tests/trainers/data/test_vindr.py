from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import Card, SplitRule, load_card
from trainers.data.index import base_of, image_files, read_index
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.readers.vindr import FINDINGS, check
from trainers.data.regions import boxes_of
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = load_card("vindr")
MAJORITY = load_card("vindr_majority")
ALL = load_card("vindr_28")
KAGGLE = load_card("vindr_kaggle")
ONE, TWO, THREE = (digit * 32 for digit in "abc")
TRAIN = ((ONE, "R1", "Pneumonia"), (ONE, "R2", "Pneumonia"), (ONE, "R3", "No finding"))
OTHERS = ((TWO, "R4", "Lung tumor"), (TWO, "R5", "No finding"), (TWO, "R6", "No finding"))


def row(image: str, rater: str, *found: str, columns: tuple[str, ...] = FINDINGS) -> str:
    who = [image, rater] if rater else [image]
    return ",".join((*who, *("1" if column in found else "0" for column in columns)))


def write(root: Path, train: tuple[tuple[str, ...], ...] = (*TRAIN, *OTHERS), test_columns: tuple[str, ...] = FINDINGS) -> Path:
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",".join(("image_id", "rad_id", *FINDINGS)), *(row(*each) for each in train), ""]
    (folder / "image_labels_train.csv").write_text("\n".join(lines), encoding="utf-8")
    lines = [",".join(("image_id", *test_columns)), row(THREE, "", "Tuberculosis", test_columns[-2], columns=test_columns), ""]
    (folder / "image_labels_test.csv").write_text("\n".join(lines), encoding="utf-8")
    return root


def found_in(card: Card, root: Path) -> dict[str, set[str]]:
    rows = read_index(card, root)
    named = [{name for name, value in zip(rows.label_names, each, strict=True) if value == 1} for each in rows.labels]
    assert set(np.unique(rows.labels)) <= {0, 1}
    return dict(zip(rows.images.tolist(), named, strict=True))


def fault(root: Path, card: Card = CARD) -> str:
    with pytest.raises(DataError) as error:
        read_index(card, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_labels_are_those_of_the_benchmark_and_of_the_release() -> None:
    six = ["Pleural effusion", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding"]
    assert list(CARD.labels.values()) == list(MAJORITY.labels.values()) == six
    assert tuple(ALL.labels.values()) == FINDINGS
    assert len(FINDINGS) == 28


def test_any_of_three_and_the_majority(tmp_path: Path) -> None:
    root = write(tmp_path)
    test = {"tuberculosis", "other_diseases"}
    assert found_in(CARD, root) == {ONE: {"pneumonia", "no_finding"}, TWO: {"lung_tumor", "no_finding"}, THREE: test}
    assert found_in(MAJORITY, root) == {ONE: {"pneumonia"}, TWO: {"no_finding"}, THREE: test}


def test_half_of_the_raters_is_no_majority(tmp_path: Path) -> None:
    root = write(tmp_path, (*TRAIN, *OTHERS[:2]))
    assert found_in(MAJORITY, root)[TWO] == set()


def test_the_two_files_give_the_splits(tmp_path: Path) -> None:
    rows = read_index(CARD, write(tmp_path))
    card = replace(CARD, splits=SplitRule(given=CARD.splits.given))
    assert split_of(card, rows).tolist() == ["train", "train", "test"]


def test_a_table_may_say_other_disease(tmp_path: Path) -> None:
    columns = (*FINDINGS[:-2], "Other disease", "No finding")
    assert found_in(CARD, write(tmp_path, test_columns=columns))[THREE] == {"tuberculosis", "other_diseases"}
    assert "has no column 'Other diseases'" in fault(write(tmp_path, test_columns=(*FINDINGS[:-2], "Others", "No finding")))


def test_a_rater_who_reads_an_image_twice(tmp_path: Path) -> None:
    assert f"csv:5: rater R3 has read {ONE} already" in fault(write(tmp_path, (*TRAIN, TRAIN[2])))


def test_a_test_image_twice(tmp_path: Path) -> None:
    file = write(tmp_path) / "annotations" / "image_labels_test.csv"
    file.write_text(file.read_text(encoding="utf-8") + row(THREE, "") + "\n", encoding="utf-8")
    assert f"csv:3: there is another row of {THREE} already" in fault(tmp_path)


def test_a_mark_that_is_neither(tmp_path: Path) -> None:
    file = write(tmp_path) / "annotations" / "image_labels_test.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("1", "-1", 1), encoding="utf-8")
    assert ":2: 'Tuberculosis' is '-1', and may be 0 or 1" in fault(tmp_path)


@pytest.mark.parametrize("place", ["train/{}.dicom", "train_jpeg/{}.jpeg", "train_png/{}.png", "train/{}.dcm"])
def test_an_image_is_found_whatever_it_was_converted_to(tmp_path: Path, place: str) -> None:
    file = write(tmp_path) / place.format(ONE)
    file.parent.mkdir(exist_ok=True)
    file.touch()
    assert image_files(CARD, tmp_path, [ONE]) == [file]


def test_lists_of_the_benchmark_name_images_of_a_folder_without_an_end(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "train.txt").write_bytes(f"train_jpeg/{ONE} 0 0 1 0 0 0\r\ntrain_jpeg/{TWO} 0 0 0 0 0 1\r\n".encode())
    (root / "test.txt").write_bytes(f"test_jpeg/{THREE} 0 0 0 1 1 0\r\n".encode())
    card = replace(CARD, splits=SplitRule(lists={"train": "train.txt", "test": "test.txt"}))
    assert split_of(card, read_index(card, root), root).tolist() == ["train", "train", "test"]


def test_where_a_download_puts_it(tmp_path: Path) -> None:
    write(tmp_path / "physionet.org" / "files" / "vindr-cxr" / "1.0.0")
    assert base_of(CARD, tmp_path) == tmp_path / "physionet.org/files/vindr-cxr/1.0.0"


def kaggle(root: Path, *lines: str) -> Path:
    (root / "train.csv").write_text(
        "\n".join(("image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", *lines, "")), encoding="utf-8"
    )
    return root


def test_kaggle_s_table_has_a_rater_for_each_box(tmp_path: Path) -> None:
    lines = (
        *(f"{ONE},Nodule/Mass,8,R1,10,20,30,40.5", f"{ONE},Nodule/Mass,8,R1,50,60,70,80", f"{ONE},ILD,5,R1,1,2,3,4"),
        *(f"{ONE},ILD,5,R2,1,2,3,5", f"{ONE},No finding,14,R3,,,,", f"{TWO},No finding,14,R1,nan,nan,nan,nan"),
    )
    root = kaggle(tmp_path, *lines)
    assert found_in(KAGGLE, root) == {ONE: {"nodule_or_mass", "ild", "no_finding"}, TWO: {"no_finding"}}
    assert found_in(replace(KAGGLE, options={"raters": "majority"}), root) == {ONE: {"ild"}, TWO: {"no_finding"}}
    found = boxes_of(locate(KAGGLE, lambda place: root))
    assert found.labels.tolist() == ["nodule_or_mass", "nodule_or_mass", "ild", "ild"]
    np.testing.assert_array_equal(found.corners[0], [10, 20, 30, 40.5])
    assert ":2: class 'Nodule' is none of Aortic enlargement" in fault(kaggle(tmp_path, f"{ONE},Nodule,8,R1,1,2,3,4"), KAGGLE)


def test_boxes_are_those_of_the_card_s_labels(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_train=12, patients_valid=6, px=32), "vindr")
    six, every = (boxes_of(locate(card, lambda place: made.root)) for card in (CARD, ALL))
    assert set(six.labels.tolist()) == {"pleural_effusion"}
    assert set(every.labels.tolist()) > {"pleural_effusion", "cardiomegaly"}
    rows = read_index(ALL, made.root)
    for image, label in zip(every.images.tolist(), every.labels.tolist(), strict=True):
        assert rows.labels[rows.images.tolist().index(image), rows.label_names.index(label)] == 1


def test_raters_of_made_data_disagree(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_train=40, px=32, source=4), "vindr")
    any_of, most_of = (read_index(card, made.root) for card in (ALL, replace(ALL, options={"raters": "majority"})))
    findings = [any_of.label_names.index(name) for name in ("pleural_effusion", "edema", "pneumothorax")]
    assert (any_of.labels[:, findings] >= most_of.labels[:, findings]).all()
    assert (any_of.labels[:, findings] > most_of.labels[:, findings]).any()


def test_wrong_options_say_what() -> None:
    assert check(replace(CARD, options={"raters": "all"})) == ".raters: is 'all', and may be any or majority"
    assert check(replace(CARD, options={"raters": "any", "x": 1})) == ".x: unknown key; it has raters"
