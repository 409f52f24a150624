"""COVID-19 Radiography, COVIDx and Kermany: classes that folders, lists and names say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.trainers.data.readers.made import placed
from trainers.data.card_checks import problem_of
from trainers.data.cards import load_card
from trainers.data.regions import masks_of
from trainers.errors import DataError

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def save(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8), value, np.uint8))


@pytest.mark.parametrize("inner", ["", "images/"])
@pytest.mark.parametrize("root", ["", "COVID-19_Radiography_Dataset/"])
def test_a_folder_is_a_class(tmp_path: Path, inner: str, root: str) -> None:
    for name in CLASSES:
        for number in (1, 2):
            save(tmp_path / root / name / inner / f"{name}-{number}.png")
    place = placed("covid19_radiography", tmp_path)
    rows = place.index()
    assert rows.images.tolist() == [f"{name}/{name}-{number}.png" for name in CLASSES for number in (1, 2)]
    np.testing.assert_array_equal(rows.labels, np.eye(4)[[0, 0, 1, 1, 2, 2, 3, 3]])
    assert rows.patients.tolist() == rows.images.tolist()
    assert all(file.is_file() for file in place.files(rows.images.tolist()))


def test_lungs_lie_beside_the_images(tmp_path: Path) -> None:
    for name in CLASSES:
        save(tmp_path / name / "images" / f"{name}-1.png")
    save(tmp_path / "COVID" / "masks" / "COVID-1.png", 255)
    place = placed("covid19_radiography", tmp_path)
    assert masks_of(place, "COVID/COVID-1.png")["lungs"].all()
    assert masks_of(place, "Normal/Normal-1.png") == {}


def test_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    save(tmp_path / "COVID" / "images" / "COVID-1.png")
    with pytest.raises(DataError, match="has no folder 'Lung_Opacity': is this the folder that holds a folder for each class"):
        placed("covid19_radiography", tmp_path).index()
    (tmp_path / "Lung_Opacity").mkdir()
    with pytest.raises(DataError, match="has no image of 'Lung_Opacity'"):
        placed("covid19_radiography", tmp_path).index()


TRAIN = """419639-003251 MIDRC-RICORD-1C-419639-003251-46647-0.png positive ricord
COVID 12 COVID(12).png positive sirm
COVID 13 COVID(13).png positive sirm\r
3 SARS-10.1148rg.242035193.jpeg negative

a1b2 a1b2.png negative rsna
"""


def covidx(root: Path, train: str = TRAIN, test: str = "b1 b1.png negative rsna\nb2 b2.png positive ricord\n") -> Path:
    root.mkdir(exist_ok=True)
    (root / "train.txt").write_text(train, encoding="utf-8", newline="")
    (root / "test.txt").write_text(test, encoding="utf-8", newline="")
    return root


def test_lines_are_read_from_their_end(tmp_path: Path) -> None:
    place = placed("covidx", covidx(tmp_path))
    rows = place.index()
    found = {image: (patient, label) for image, patient, label in zip(rows.images, rows.patients, rows.labels[:, 0], strict=True)}
    assert found["train/COVID(12).png"] == ("COVID 12", 1) and found["train/COVID(13).png"] == ("COVID 13", 1)
    assert found["train/SARS-10.1148rg.242035193.jpeg"] == ("3", 0)
    assert len(found) == 7
    assert set(rows.traits["source"].tolist()) == {"ricord", "sirm", "rsna", ""}
    split = dict(zip(rows.images.tolist(), place.split_of(rows).tolist(), strict=True))
    assert {name for image, name in split.items() if image.startswith("test/")} == {"test"}
    assert {name for image, name in split.items() if image.startswith("train/")} == {"train", "val"}


def test_three_classes(tmp_path: Path) -> None:
    (tmp_path / "train_COVIDx9A.txt").write_text("1 a.png normal rsna\n2 b.png pneumonia rsna\n3 c.png COVID-19 sirm\n", encoding="utf-8")
    (tmp_path / "test_COVIDx9A.txt").write_text("4 d.png COVID-19 sirm\n", encoding="utf-8")
    rows = placed("covidx_3class", tmp_path).index()
    assert rows.images.tolist() == ["test/d.png", "train/a.png", "train/b.png", "train/c.png"]
    np.testing.assert_array_equal(rows.labels, np.eye(3)[[2, 0, 1, 2]])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "1 a.png maybe rsna",
            r"train\.txt:1: '1 a\.png maybe rsna' is not `patient file class source` with a class among positive, negative",
        ),
        ("a.png positive", r"train\.txt:1: 'a\.png positive' is not `patient file class source`"),
        ("1 a.png positive x\n2 a.png positive x", r"train/a\.png is already named at"),
    ],
)
def test_a_wrong_line_says_where(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        placed("covidx", covidx(tmp_path, train=line + "\n")).index()


def test_a_patient_of_both_lists_is_refused(tmp_path: Path) -> None:
    place = placed("covidx", covidx(tmp_path, test="419639-003251 x.png positive ricord\n"))
    with pytest.raises(DataError, match="1 patients are in more than one split: 419639-003251"):
        place.split_of(place.index())


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"negativ": "x"}, "options.negativ: unknown key"), ({"negative": ["x"]}, "options.negative: is ['x'], and names the class")],
)
def test_wrong_options_of_covidx(options: dict[str, object], problem: str) -> None:
    assert problem in str(problem_of(replace(load_card("covidx"), options=options)))


def kermany(root: Path) -> Path:
    for name in ("train/NORMAL/IM-0115-0001", "train/NORMAL/NORMAL2-IM-0383-0001", "train/PNEUMONIA/person1_bacteria_1"):
        save(root / "chest_xray" / f"{name}.jpeg")
    for name in ("train/PNEUMONIA/person1_bacteria_2", "test/PNEUMONIA/person1_virus_6", "test/NORMAL/IM-0001-0001"):
        save(root / "chest_xray" / f"{name}.jpeg")
    for number in range(2, 40):
        save(root / "chest_xray" / "train" / "PNEUMONIA" / f"person{number}_virus_{number + 100}.jpeg")
    return root


def test_a_person_of_both_folders_is_one_patient_by_hash(tmp_path: Path) -> None:
    place = placed("kermany", kermany(tmp_path))
    rows = place.index()
    split = place.split_of(rows)
    assert set(split.tolist()) == {"train", "val", "test"}
    assert len(set(split[rows.patients == "person1"].tolist())) == 1 and (rows.patients == "person1").sum() == 3
    assert rows.labels[:, 0].sum() == 41
    crossing = replace(place, card=replace(place.card, splits=load_card("kermany_official").splits))
    with pytest.raises(DataError, match="1 patients are in more than one split: person1"):
        crossing.split_of(rows)


def test_the_release_s_split_counts_persons_a_folder(tmp_path: Path) -> None:
    place = placed("kermany_official", kermany(tmp_path))
    rows = place.index()
    split = dict(zip(rows.images.tolist(), place.split_of(rows).tolist(), strict=True))
    assert [image for image, name in split.items() if name == "test"] == [
        "test/NORMAL/IM-0001-0001.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
    ]
    assert {"train/person1", "test/person1"} <= set(rows.patients.tolist())


def test_names_say_bacteria_or_virus(tmp_path: Path) -> None:
    rows = placed("kermany_3class", kermany(tmp_path)).index()
    assert rows.labels.sum(axis=0).tolist() == [3, 2, 39]
    assert "options.patient: unknown key" in str(problem_of(replace(load_card("kermany"), options={"patient": "one"})))
    assert "options.patients: is 'two'" in str(problem_of(replace(load_card("kermany"), options={"patients": "two"})))
