from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainers.data.layouts import HEADER, csv_row, write_chexpert, write_csv
from trainers.data.cards import load_card
from trainers.data.index import base_of, label_digests, read_index
from trainers.errors import DataError

CARD = load_card("chexpert")
ONE = "train/patient00001/study1/view1_frontal.jpg"
VALID = [csv_row("valid/patient09999/study1/view1_frontal.jpg", Edema="0.0")]


def write_both(root: Path, rows: list[list[str]], header: tuple[str, ...] = HEADER) -> Path:
    write_csv(root / "train.csv", rows, header)
    write_csv(root / "valid.csv", VALID)
    return root


def test_rows_are_sorted_and_complete(chexpert: Path) -> None:
    rows = read_index(CARD, chexpert)
    assert len(rows) == 2 * (12 + 4)
    assert list(rows.images) == sorted(rows.images)
    assert rows.position.tolist() == list(range(len(rows)))
    assert rows.images[0] == ONE
    assert (rows.patients[0], rows.studies[0]) == ("patient00001", "patient00001/study1")
    assert rows.views[:2].tolist() == ["frontal", "lateral"]
    assert rows.label_names == CARD.label_names


def test_values_stay_as_they_are_on_disk(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE, Edema="-1.0", Fracture="1", Pleural_Effusion="0.0")])
    rows = read_index(CARD, root).select(("edema", "fracture", "pleural_effusion", "pneumonia"))
    np.testing.assert_array_equal(rows.labels[0], [-1, 1, 0, np.nan])


def test_traits_are_what_the_columns_say_and_empty_where_there_is_none(tmp_path: Path) -> None:
    row = csv_row(ONE, Edema="1.0")
    row[1:3] = ["Female", "61"]
    write_csv(tmp_path / "train.csv", [row])
    write_csv(tmp_path / "valid.csv", [VALID[0][:1] + VALID[0][3:]], HEADER[:1] + HEADER[3:])
    traits = read_index(CARD, tmp_path).traits
    assert {name: texts.tolist() for name, texts in traits.items()} == {
        "sex": ["Female", ""],
        "age": ["61", ""],
        "view": ["Frontal", "Frontal"],
    }


def test_labels_are_found_by_column_name(tmp_path: Path) -> None:
    turned = HEADER[:5] + tuple(reversed(HEADER[5:]))
    row = csv_row(ONE, Edema="1.0")
    root = write_both(tmp_path, [row[:5] + row[5:][::-1]], turned)
    rows = read_index(CARD, root)
    assert [name for name, value in zip(rows.label_names, rows.labels[0], strict=True) if value == 1] == ["edema"]


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0-small/", "CheXpert-v1.0/", ""])
def test_both_releases_give_the_same_image_names(tmp_path: Path, prefix: str) -> None:
    write_csv(tmp_path / "train.csv", [csv_row(ONE, prefix=prefix)])
    write_csv(tmp_path / "valid.csv", VALID)
    assert read_index(CARD, tmp_path).images[0] == ONE


@pytest.mark.parametrize("name", ["CheXpert-v1.0-small", "CheXpert-v1.0"])
def test_the_folder_above_the_release_will_do(tmp_path: Path, name: str) -> None:
    inner = write_chexpert(tmp_path / name, 3)
    assert base_of(CARD, tmp_path) == inner
    assert len(read_index(CARD, tmp_path)) == len(read_index(CARD, inner))
    assert label_digests(CARD, tmp_path) == label_digests(CARD, inner)


def test_released_test_labels_have_no_view_column(tmp_path: Path) -> None:
    card = load_card("chexpert_official_test")
    write_both(tmp_path, [csv_row(ONE)])
    at = HEADER.index("Frontal/Lateral")
    line = csv_row("test/patient64741/study1/view1_lateral.jpg", prefix="", Edema="1.0")
    write_csv(tmp_path / "test.csv", [line[:at] + line[at + 1 :]], HEADER[:at] + HEADER[at + 1 :])
    rows = read_index(card, tmp_path)
    assert rows.views.tolist() == ["lateral", "frontal", "frontal"]


def test_windows_line_ends_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE, Edema="1.0")])
    text = (root / "train.csv").read_text(encoding="utf-8").replace("\n", "\r\n") + "\r\n"
    (root / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_index(CARD, root)) == 2


def fault(root: Path) -> str:
    with pytest.raises(DataError) as error:
        read_index(CARD, root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_root_says_what_to_type(tmp_path: Path) -> None:
    message = fault(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message
    assert "cluster config, such as 'data: {chexpert: /path/to/chexpert}'" in message


def test_a_missing_label_file_is_named(chexpert: Path) -> None:
    (chexpert / "valid.csv").unlink()
    assert "has no valid.csv" in fault(chexpert)
    with pytest.raises(DataError, match=r"has no valid\.csv"):
        label_digests(CARD, chexpert)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    at = HEADER.index("Edema")
    row = csv_row(ONE)
    root = write_both(tmp_path, [row[:at] + row[at + 1 :]], HEADER[:at] + HEADER[at + 1 :])
    assert f"{root / 'train.csv'}: has no column 'Edema'" in fault(root)


def test_an_empty_file(tmp_path: Path) -> None:
    root = write_both(tmp_path, [])
    (root / "train.csv").write_text("", encoding="utf-8")
    assert "train.csv: is empty" in fault(root)


def test_headers_alone(tmp_path: Path) -> None:
    root = write_both(tmp_path, [])
    write_csv(root / "valid.csv", [])
    assert "has no row in train.csv, valid.csv" in fault(root)


def test_a_path_twice(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE), csv_row(ONE.replace("1_f", "2_f")), csv_row(ONE)])
    assert f"train.csv:4: {ONE} is already named at train.csv:2" in fault(root)


def test_an_unknown_value(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE), csv_row(ONE.replace("view1", "view2"), Fracture="0.5")])
    assert "train.csv:3: 'Fracture' is '0.5', and may be 1, 0, -1 or nothing" in fault(root)


def test_an_unknown_view(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE, view="Oblique")])
    assert "train.csv:2: view 'Oblique' is neither Frontal nor Lateral" in fault(root)


def test_a_path_of_another_shape(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row("view1_frontal.jpg")])
    assert "is not like train/patient00001/study1/view1_frontal.jpg" in fault(root)


def test_a_line_with_too_few_fields(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE)[:-3]])
    assert "train.csv:2: has 16 fields, the header has 19" in fault(root)


def test_another_encoding(tmp_path: Path) -> None:
    root = write_both(tmp_path, [csv_row(ONE)])
    (root / "train.csv").write_bytes((root / "train.csv").read_bytes().replace(b"Female", b"F\xe9male"))
    assert "is not UTF-8" in fault(root)


def test_many_rows_are_read(tmp_path: Path) -> None:
    count = 20_000
    rows = [csv_row(f"train/patient{number:05d}/study1/view1_frontal.jpg", Edema="1.0") for number in range(count)]
    root = write_both(tmp_path, rows)
    found = read_index(CARD, root)
    assert len(found) == count + 1
    assert np.nansum(found.labels[:, CARD.label_names.index("edema")]) == count
