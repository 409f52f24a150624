from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainers.data.access import Rows
from trainers.data.cards import Card, load_card
from trainers.data.index import base_of, label_digests, read_index
from trainers.data.phantom.layouts.chexpert import OBSERVATIONS
from trainers.data.readers.mimic_cxr import check
from trainers.data.splits import split_of
from trainers.errors import DataError

CARD = load_card("mimic_cxr")
ALPHABETICAL = sorted(OBSERVATIONS)
META = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns"
PATIENTS = {"10000032": ("50414267", "train"), "11000001": ("51000001", "validate"), "12000001": ("52000001", "test")}


def labels(subject: str, **values: str) -> str:
    by = {name.replace("_", " "): value for name, value in values.items()}
    return ",".join((subject, PATIENTS[subject][0], *(by.get(column, "") for column in ALPHABETICAL)))


def write(root: Path, *, more: tuple[str, ...] = (), packed: bool = True, **values: str) -> Path:
    """Write three studies of a frontal and a lateral image each, `more` lines of metadata, and labels of the first study."""
    root.mkdir(parents=True, exist_ok=True)
    views = [(f"{subject}-{view}", subject, study, view) for subject, (study, _) in PATIENTS.items() for view in ("PA", "LATERAL")]
    tables = {
        "metadata": [META, *(f"{name},{subject},{study},CHEST,{view},3056,2544" for name, subject, study, view in views), *more],
        "split": ["dicom_id,study_id,subject_id,split"]
        + [f"{name},{study},{subject},{PATIENTS[subject][1]}" for name, subject, study, _ in views]
        + [",".join((*line.split(",")[:1], *line.split(",")[2:0:-1], "train")) for line in more],
        "chexpert": [
            "subject_id,study_id," + ",".join(ALPHABETICAL),
            labels("10000032", **values),
            labels("11000001", Edema="0.0"),
            labels("12000001", Edema="1.0"),
        ],
    }
    for kind, lines in tables.items():
        text = "\n".join(lines).encode() + b"\n"
        name = f"mimic-cxr-2.0.0-{kind}.csv"
        (root / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(text) if packed else text)
    return root


def value_of(rows: Rows, image: str, label: str) -> float:
    return float(rows.labels[rows.images.tolist().index(image), rows.label_names.index(label)])


def image(subject: str, name: str) -> str:
    return f"files/p{subject[:2]}/p{subject}/s{PATIENTS[subject][0]}/{name}.jpg"


@pytest.mark.parametrize("packed", [True, False])
def test_labels_views_and_splits_are_joined(tmp_path: Path, packed: bool) -> None:
    root = write(tmp_path, packed=packed, Edema="-1.0", Fracture="1.0", Pleural_Effusion="0.0")
    rows = read_index(CARD, root)
    assert len(rows) == 6
    one = image("10000032", "10000032-PA")
    assert rows.images[1] == one
    assert (rows.patients[1], rows.studies[1], rows.views[1]) == ("p10000032", "p10000032/s50414267", "frontal")
    assert rows.views[0] == "lateral"
    assert rows.traits["view_position"][:2].tolist() == ["LATERAL", "PA"]
    assert split_of(CARD, rows).tolist() == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    found = [value_of(rows, one, label) for label in ("edema", "fracture", "pleural_effusion", "pneumonia")]
    np.testing.assert_array_equal(found, [-1, 1, 0, np.nan])
    assert sorted(label_digests(CARD, root)) == sorted(CARD.label_files)


@pytest.mark.parametrize("column", ALPHABETICAL)
def test_labels_are_in_alphabetical_order_on_disk_and_in_chexpert_s_in_the_card(tmp_path: Path, column: str) -> None:
    """The trap of a published configuration: names in CheXpert's order over columns in alphabetical order."""
    assert tuple(CARD.labels.values()) == OBSERVATIONS != tuple(ALPHABETICAL)
    rows = read_index(CARD, write(tmp_path, **{column.replace(" ", "_"): "1.0"}))
    found = rows.labels[rows.images.tolist().index(image("10000032", "10000032-PA"))]
    assert [CARD.labels[slug] for slug, value in zip(rows.label_names, found, strict=True) if value == 1] == [column]


@pytest.mark.parametrize("position", ["LAO", "", "AP AXIAL", "PA LLD"])
def test_other_views_are_left_out(tmp_path: Path, position: str) -> None:
    root = write(tmp_path, more=(f"odd,10000032,50414267,CHEST,{position},10,10", "again,10000032,50414267,CHEST,LL,10,10"))
    images = read_index(CARD, root).images.tolist()
    assert image("10000032", "odd") not in images
    assert image("10000032", "again") in images


def test_a_study_without_labels_is_left_out(tmp_path: Path) -> None:
    rows = read_index(CARD, write(tmp_path, more=("lone,10000032,59999999,CHEST,PA,10,10",)))
    assert not any("59999999" in image for image in rows.images)


def test_an_image_that_the_split_does_not_name_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path)
    file = root / "mimic-cxr-2.0.0-split.csv.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    file.write_bytes(gzip.compress("\n".join(lines[:-1]).encode()))
    rows = read_index(CARD, root)
    with pytest.raises(DataError, match="is in no split"):
        split_of(CARD, rows)


def test_tables_of_two_releases_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path)
    file = root / "mimic-cxr-2.0.0-split.csv.gz"
    text = gzip.decompress(file.read_bytes()).decode()
    file.write_bytes(gzip.compress(text.replace("50414267,10000032", "50414267,19999999").encode()))
    assert "10000032-PA is of another subject or study than at" in fault(root)


def fault(root: Path, card: Card = CARD) -> str:
    with pytest.raises(DataError) as error:
        read_index(card, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_packed_and_unpacked_at_once_are_refused(tmp_path: Path) -> None:
    write(write(tmp_path), packed=False)
    assert "keep one of them" in fault(tmp_path)


def test_half_a_gzip_file(tmp_path: Path) -> None:
    root = write(tmp_path)
    file = root / "mimic-cxr-2.0.0-chexpert.csv.gz"
    file.write_bytes(file.read_bytes()[:-9])
    assert "is no whole gzip file" in fault(root)


def test_a_study_twice(tmp_path: Path) -> None:
    root = write(tmp_path, packed=False)
    with (root / "mimic-cxr-2.0.0-chexpert.csv").open("a", encoding="utf-8") as file:
        file.write(labels("12000001") + "\n")
    assert "csv:5: study 52000001 of subject 12000001 is there twice" in fault(root)


@pytest.mark.parametrize("inner", ["physionet.org/files/mimic-cxr-jpg/2.0.0", "mimic-cxr-jpg"])
def test_where_a_download_puts_it(tmp_path: Path, inner: str) -> None:
    assert base_of(CARD, tmp_path) == tmp_path
    assert base_of(CARD, write(tmp_path / inner).parents[len(Path(inner).parts) - 1]) == tmp_path / inner


def test_the_test_split_by_radiologists(tmp_path: Path) -> None:
    card = load_card("mimic_cxr_radiologist_test")
    root = write(tmp_path, Edema="1.0")
    columns = ["study_id", "Airspace Opacity", *(column for column in ALPHABETICAL if column != "Lung Opacity")]
    given = {"study_id": "52000001", "Airspace Opacity": "1.0", "Edema": "0.0"}
    text = ",".join(columns) + "\n" + ",".join(given.get(column, "") for column in columns) + "\n"
    (root / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(text, encoding="utf-8")
    rows = read_index(card, root)
    assert value_of(rows, image("12000001", "12000001-PA"), "lung_opacity") == 1
    assert value_of(rows, image("12000001", "12000001-PA"), "edema") == 0
    assert value_of(rows, image("10000032", "10000032-PA"), "edema") == 1
    (root / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(text.replace("52000001", "52999999"), encoding="utf-8")
    assert not any("p12000001" in image for image in read_index(card, root).images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, ".views: there is none"),
        ({"views": {"PA": "front"}}, ".views: is a mapping from ViewPosition to frontal or lateral"),
        ({"view": {"PA": "frontal"}}, ".view: unknown key; it has views, test_labels and reports"),
        ({"views": {"PA": "frontal"}, "test_labels": "x.csv"}, ".test_labels: 'x.csv' is none of label_files"),
    ],
)
def test_wrong_options_say_what(options: dict[str, object], message: str) -> None:
    assert message in str(check(replace(CARD, options=options)))
