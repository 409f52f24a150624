"""PadChest: lists of names, projections, and patients of both kinds of labels."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.trainers.data.layouts import write_csv
from tests.trainers.data.readers.made import placed
from tests.trainers.data.test_real_labels import released
from trainers.data.card_checks import problem_of
from trainers.data.cards import load_card
from trainers.data.phantom.layouts.padchest import COLUMNS
from trainers.data.readers.padchest import NETWORK_OF_TEST, bits
from trainers.errors import DataError

CARD = load_card("padchest")
TABLE = CARD.label_files[0]
#: Files of the release that are known to be missing or cut short (named by torchxrayvision's reader).
KNOWN_BAD = ("216840111366964012819207061112010307142602253_04-014-084.png", "216840111366964012373310883942009152114636712_00-102-045.png")


def line(image: str, patient: str, labels: str, *, method: str = "Physician", projection: str = "PA", **more: str) -> list[str]:
    cells = {
        "ImageID": image,
        "ImageDir": "0",
        "StudyDate_DICOM": "20140915",
        "StudyID": f"s{image}",
        "PatientID": patient,
        "PatientBirth": "1930.0",
        "PatientSex_DICOM": "F",
        "Projection": projection,
        "MethodLabel": method,
        "Labels": labels,
        # A cell of two lines, as the release has some.
        "labelCUIS": "['C0034069'\n 'C0742362']",
    }
    return [({**cells, **more}).get(column, "None") for column in COLUMNS]


def table(root: Path, *lines: list[str]) -> Path:
    write_csv(root / TABLE, lines, COLUMNS)
    return root


def test_names_have_blanks_and_none_is_not_normal(tmp_path: Path) -> None:
    root = table(
        tmp_path,
        line("a.png", "1", "['normal']"),
        line("b.png", "2", "['pleural effusion', ' cardiomegaly ', 'pleural effusion']"),
        line("c.png", "3", "nan"),
        line("d.png", "4", "['']"),
        line("e.png", "5", "['', ' normal']"),
    )
    rows = placed("padchest", root).index()
    assert [sorted(np.array(CARD.label_names)[row == 1]) for row in rows.labels] == [
        ["normal"],
        ["cardiomegaly", "pleural_effusion"],
        [],
        [],
        ["normal"],
    ]
    assert np.isnan(rows.labels).all(axis=1).tolist() == [False, False, True, True, False]
    assert CARD.policies["missing"] == "ignore"
    assert rows.traits["age"].tolist() == ["84"] * 5


def test_projections_are_views_or_left_out(tmp_path: Path) -> None:
    kinds = ("PA", "AP", "AP_horizontal", "L", "COSTAL", "EXCLUDE", "UNK")
    place = placed("padchest", table(tmp_path, *(line(f"{kind}.png", kind, "['normal']", projection=kind) for kind in kinds)))
    rows = place.index()
    assert dict(zip(rows.images.tolist(), rows.views.tolist(), strict=True)) == {
        "AP.png": "frontal",
        "AP_horizontal.png": "frontal",
        "L.png": "lateral",
        "PA.png": "frontal",
    }
    table(tmp_path, line("a.png", "1", "['normal']", projection="OBLIQUE"))
    with pytest.raises(DataError, match=r"160K_01\.02\.19\.csv:3: Projection is 'OBLIQUE', and the card knows PA, AP"):
        place.index()


def test_patients_of_physicians_are_test_and_their_other_images_nothing(tmp_path: Path) -> None:
    root = table(
        tmp_path,
        line("a.png", "1", "['normal']"),
        line("b.png", "1", "['normal']", method="RNN_model"),
        *(line(f"n{number}.png", f"n{number}", "['normal']", method="RNN_model") for number in range(30)),
    )
    place = placed("padchest", root)
    split = dict(zip(place.index().images.tolist(), place.split_of(place.index()).tolist(), strict=True))
    assert (split["a.png"], split["b.png"]) == ("test", "")
    assert {split[f"n{number}.png"] for number in range(30)} == {"train", "val"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("normal", r"csv:3: Labels is 'normal', and has to be a list of names"),
        ("['normal'", r"Labels is \"\['normal'\", and has to be a list"),
        ("[1]", "has to be a list of names"),
        ("{'normal': 1}", "has to be a list of names"),
        ("__import__('os').getcwd()", "has to be a list of names"),
        ("['nomral']", r"csv:3: 'nomral' is no label of the card; add it, or write `unknown_labels: leave_out`"),
    ],
)
def test_a_wrong_list_says_where(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        placed("padchest", table(tmp_path, line("a.png", "1", labels))).index()


def test_a_card_of_fewer_labels_may_leave_others_out(tmp_path: Path) -> None:
    few = {"pleural_effusion": "pleural effusion"}
    place = placed("padchest", table(tmp_path, line("a.png", "1", "['normal', 'pleural effusion']")), labels=few)
    with pytest.raises(DataError, match="'normal' is no label of the card"):
        place.index()
    left = replace(place, card=replace(place.card, options={**place.card.options, "unknown_labels": "leave_out"}))
    assert left.index().labels.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"projection": {}}, "options.projection: unknown key"),
        ({"projections": {"PA": "front"}}, "options.projections: says which Projection is frontal"),
        ({"leave_out": ["PA"]}, "options.leave_out: 'PA' has a view in projections"),
        ({"bits": 17}, "options.bits: is 17, and a PNG has 1 to 16"),
        ({"bits": "Bits"}, "options.bits: is 'Bits', and a PNG has 1 to 16; BitsStored_DICOM reads that column"),
        ({"unknown_labels": "ignore"}, "options.unknown_labels: is 'ignore', and may be refuse or leave_out"),
    ],
)
def test_wrong_options_say_what(changes: dict[str, object], problem: str) -> None:
    assert problem in str(problem_of(replace(CARD, options={**CARD.options, **changes})))


def test_an_unknown_method_and_a_row_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MethodLabel is 'Nurse', and may be Physician or RNN_model"):
        placed("padchest", table(tmp_path, line("a.png", "1", "['normal']", method="Nurse"))).index()
    with pytest.raises(DataError, match=r"a\.png is already named at"):
        placed("padchest", table(tmp_path, line("a.png", "1", "['normal']"), line("a.png", "1", "['normal']"))).index()


def test_images_lie_in_numbered_folders_or_in_one(tmp_path: Path) -> None:
    for file in (tmp_path / "50" / "a.png", tmp_path / "b.png"):
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), np.zeros((4, 4), np.uint16))
    found = placed("padchest", tmp_path).files(["b.png", "a.png", KNOWN_BAD[0]])
    assert found == [tmp_path / "b.png", tmp_path / "50" / "a.png", tmp_path / KNOWN_BAD[0]]


def test_bits_are_16_or_what_the_card_or_the_table_says(tmp_path: Path) -> None:
    table(tmp_path, line("a.png", "1", "['normal']", BitsStored_DICOM="12"), line("b.png", "1", "['normal']", BitsStored_DICOM="10"))
    for said, expected in (({}, [16, 16]), ({"bits": 12}, [12, 12]), ({"bits": "BitsStored_DICOM"}, [10, 12])):
        card = replace(CARD, options={**CARD.options, **said})
        assert problem_of(card) is None
        assert bits(card, tmp_path, ["b.png", "a.png"]) == expected


def test_what_is_cut_short_in_the_release_is_named(tmp_path: Path) -> None:
    from trainers.data.decode import read_gray

    place = placed("padchest", tmp_path)
    (tmp_path / "0").mkdir()
    whole = cv2.imencode(".png", np.full((40, 40), 700, np.uint16))[1].tobytes()
    (tmp_path / "0" / KNOWN_BAD[1]).write_bytes(whole[: len(whole) // 2])
    for name, message in zip(KNOWN_BAD, ("is missing", "truncated PNG"), strict=True):
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            read_gray(place.files([name])[0])


@pytest.mark.needs("label_files")
def test_the_real_table_has_the_counts_that_are_published(tmp_path: Path) -> None:
    (tmp_path / TABLE).write_bytes(gzip.decompress(released(f"{TABLE}.gz").read_bytes()))
    unused = CARD.options["leave_out"]
    everything = {**CARD.options["projections"], **dict.fromkeys(unused, "frontal")}
    place = placed("padchest", tmp_path, options={"projections": everything})
    rows = place.index()
    assert rows.given is not None
    assert (len(rows), len(np.unique(rows.patients))) == (160_861, 67_625)
    # 103 rows without a list, and 777 with a blank name and no other.
    assert np.isnan(rows.labels).all(axis=1).sum() == 880
    assert (rows.labels[:, CARD.label_names.index("normal")] == 1).sum() == 50_616
    assert (rows.labels == 1).any(axis=0).all()
    assert {name: (rows.traits["projection"] == name).sum() for name in everything} == {
        "PA": 91_728,
        "L": 49_579,
        "AP_horizontal": 14_346,
        "AP": 4_559,
        "COSTAL": 630,
        "EXCLUDE": 11,
        "UNK": 8,
    }
    assert Counter(rows.given.tolist())["Physician"] == 39_053
    # Of 7,799 patients a physician read some images and the network the others.
    both = set(rows.patients[rows.given == NETWORK_OF_TEST])
    assert len(both) == 7_799 and both <= set(rows.patients[rows.given == "Physician"])
    split = place.split_of(rows)
    assert (split == "test").sum() == 39_053 and not set(rows.patients[split == "train"]) & set(rows.patients[split == "test"])
