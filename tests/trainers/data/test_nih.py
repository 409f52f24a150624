from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers.data.cards import Card, load_card
from trainers.data.index import base_of, image_files, label_digests, read_index
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.regions import boxes_of
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = load_card("chestxray14")
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ONE, TWO, THREE = "00000001_000.png", "00000001_001.png", "00000002_000.png"


def line(name: str, findings: str, *, age: str = "58", sex: str = "M") -> str:
    return f"{name},{findings},0,{int(name[:8])},{age},{sex},PA,2682,2749,0.143,0.143"


def write(root: Path, *lines: str, header: str = HEADER, name: str = "Data_Entry_2017_v2020.csv", end: str = "\n") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(end.join((header, *lines, "")).encode())
    return root


def fault(root: Path, card: Card = CARD) -> str:
    with pytest.raises(DataError) as error:
        read_index(card, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_order_of_labels_is_that_of_the_lists() -> None:
    names = "Atelectasis, Cardiomegaly, Effusion, Infiltration, Mass, Nodule, Pneumonia, Pneumothorax, Consolidation, Edema, "
    assert ", ".join(CARD.labels.values()) == names + "Emphysema, Fibrosis, Pleural_Thickening, Hernia"


def test_findings_are_read_by_name(tmp_path: Path) -> None:
    root = write(tmp_path, line(ONE, "Hernia|Effusion"), line(TWO, "No Finding"), line(THREE, "Nodule"))
    rows = read_index(CARD, root)
    assert [[slug for slug, value in zip(rows.label_names, row, strict=True) if value == 1] for row in rows.labels] == [
        ["pleural_effusion", "hernia"],
        [],
        ["nodule"],
    ]
    assert set(np.unique(rows.labels)) == {0, 1}
    assert rows.patients.tolist() == ["1", "1", "2"]


@pytest.mark.parametrize(("written", "age"), [("58", "58"), ("058Y", "58"), ("007M", "0"), ("005D", "0"), ("", "")])
def test_ages_of_both_releases(tmp_path: Path, written: str, age: str) -> None:
    header = HEADER + ","
    root = write(tmp_path, line(ONE, "Mass", age=written) + ",", header=header, name="Data_Entry_2017.csv", end="\r\n")
    traits = {name: texts.tolist() for name, texts in read_index(CARD, root).traits.items()}
    assert traits == {"sex": ["M"], "age": [age], "view_position": ["PA"]}


def test_a_copy_that_says_sex(tmp_path: Path) -> None:
    root = write(tmp_path, line(ONE, "Mass", sex="F"), header=HEADER.replace("Gender", "Sex"))
    assert read_index(CARD, root).traits["sex"].tolist() == ["F"]


@pytest.mark.parametrize("folder", ["images", "images_003/images", "images_003", "."])
def test_an_image_is_found_however_the_archives_were_unpacked(tmp_path: Path, folder: str) -> None:
    root = write(tmp_path, line(ONE, "Mass"), line(THREE, "Mass"))
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / ONE).touch()
    assert image_files(CARD, root, [ONE, THREE]) == [root / folder / ONE, root / "images" / THREE]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write(tmp_path, line(ONE, "Mass")) / "images").mkdir()

    def refused(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    # Root may read everything, and tests may be run by root.
    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(DataError, match=r"images cannot be read \(Permission denied\): check the disk and the permissions"):
        image_files(CARD, tmp_path, [ONE])


def test_a_folder_in_the_root_will_do(tmp_path: Path) -> None:
    inner = write(tmp_path / "CXR8", line(ONE, "Mass"))
    assert base_of(CARD, tmp_path) == inner
    assert len(read_index(CARD, tmp_path)) == 1


def test_both_releases_at_once_are_refused(tmp_path: Path) -> None:
    write(write(tmp_path, line(ONE, "Mass")), line(ONE, "Mass"), name="Data_Entry_2017.csv")
    assert "has Data_Entry_2017.csv and Data_Entry_2017_v2020.csv in" in fault(tmp_path)


FAULTS = {
    "unknown finding": (line(ONE, "Efusion"), ":2: 'Finding Labels' has 'Efusion', which is none of Atelectasis"),
    "both": (line(ONE, "No Finding|Mass"), ":2: 'Finding Labels' is 'No Finding|Mass': no finding and a finding"),
    "no finding at all": (line(ONE, ""), ":2: 'Finding Labels' is empty"),
    "no patient": (line(ONE, "Mass").replace(",0,1,", ",0,,"), ":2: 'Patient ID' is empty"),
    "cut": (line(ONE, "Mass")[:40], ":2: has 9 fields, the header has 11"),
}


@pytest.mark.parametrize("case", sorted(FAULTS))
def test_a_wrong_row_is_named(tmp_path: Path, case: str) -> None:
    text, message = FAULTS[case]
    assert message in fault(write(tmp_path, text))


def test_an_image_twice(tmp_path: Path) -> None:
    assert f"{ONE} is already named at" in fault(write(tmp_path, line(ONE, "Mass"), line(ONE, "Hernia")))


def test_a_label_of_another_kind_of_value(tmp_path: Path) -> None:
    card = load_card("chestxray14_google")
    header = HEADER + ",Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id"
    write(tmp_path, line(ONE, "Mass") + ",NO,YES,NO,1,val", header=header, name="google2019_nih-chest-xray-labels.csv")
    assert ":2: 'Nodule or mass' is '1', and may be YES or NO" in fault(tmp_path, card)


def test_the_patient_wise_split_has_lists_of_its_own(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_train=16, patients_valid=4, px=32), "nih")
    card = load_card("chestxray14_702010")
    rows = read_index(card, made.root)
    split = split_of(card, rows, made.root)
    assert {name: len(np.unique(rows.patients[split == name])) for name in ("train", "val", "test")} == {"train": 14, "val": 2, "test": 4}
    listed = label_digests(card, made.root)
    assert sorted(listed) == ["Data_Entry_2017*.csv", "labels/test_list.txt", "labels/train_list.txt", "labels/val_list.txt"]


def test_a_user_s_lists_lie_beside_a_card(tmp_path: Path) -> None:
    root = write(tmp_path / "data", line(ONE, "Mass"), line(TWO, "Mass"), line(THREE, "Mass"), line("00000003_000.png", "Mass"))
    lists = tmp_path / "cards" / "labels"
    lists.mkdir(parents=True)
    for name, images in {"train": (ONE, TWO), "val": (THREE,), "test": ("00000003_000.png",)}.items():
        (lists / f"{name}_list.txt").write_bytes("".join(f"{image} 0 0 1\r\n" for image in images).encode())
    card = replace(load_card("chestxray14_702010"), folder=str(tmp_path / "cards"))
    assert split_of(card, read_index(card, root), root).tolist() == ["train", "train", "val", "test"]


def test_boxes_are_corners_of_known_findings(tmp_path: Path) -> None:
    root = write(tmp_path, line(ONE, "Infiltration"))
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    write(root, f"{ONE},Infiltrate,10.5,20,30,40.25", header=header, name="BBox_List_2017.csv")
    found = boxes_of(locate(CARD, lambda place: root))
    assert (found.images.tolist(), found.labels.tolist()) == ([ONE], ["infiltration"])
    np.testing.assert_array_equal(found.corners, [[10.5, 20, 40.5, 60.25]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{ONE},Infiltrates,1,2,3,4", ":2: 'Infiltrates' is none of Atelectasis"),
        (f"{ONE},Mass,1,2,3,four", ":2: 'h]' is 'four', and has to be a number"),
        (f"{ONE},Mass,1,2,0,4", "is empty (1.0, 2.0, 1.0, 6.0)"),
    ],
)
def test_a_wrong_box_is_named(tmp_path: Path, row: str, message: str) -> None:
    root = write(tmp_path, line(ONE, "Mass"))
    write(root, row, header="Image Index,Finding Label,Bbox [x,y,w,h],,,", name="BBox_List_2017.csv")
    with pytest.raises(DataError) as error:
        boxes_of(locate(CARD, lambda place: root))
    assert message in str(error.value)


def test_made_boxes_are_of_findings_that_the_label_file_has(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_valid=20, patients_train=2, px=64), "nih")
    place = locate(CARD, lambda place: made.root)
    rows, found = place.index(), boxes_of(place)
    assert len(found)
    at = {image: row for row, image in enumerate(rows.images.tolist())}
    for image, label in zip(found.images.tolist(), found.labels.tolist(), strict=True):
        assert rows.labels[at[image], rows.label_names.index(label)] == 1
