"""Readers on the label files of real releases, which come inside a package: the counts that the data sets are known by."""

from __future__ import annotations

import csv
import gzip
import zipfile
from collections import defaultdict
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from trainers.data.access import Rows
from trainers.data.cards import load_card
from trainers.data.index import read_index
from trainers.data.located import locate
from trainers.data.regions import boxes_of, masks_of
from trainers.data.splits import split_of

pytestmark = pytest.mark.needs("label_files")


def released(name: str) -> Path:
    """Return a file of the package, of which nothing is imported: what it depends on is not installed."""
    spec = find_spec("torchxrayvision")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / name


def unpack(name: str, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.decompress(released(name).read_bytes()))
    return file.parent


def positives(rows: Rows) -> dict[str, int]:
    return dict(zip(rows.label_names, (rows.labels == 1).sum(axis=0).tolist(), strict=True))


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nih")
    unpack("Data_Entry_2017_v2020.csv.gz", root / "Data_Entry_2017_v2020.csv")
    unpack("google2019_nih-chest-xray-labels.csv.gz", root / "google2019_nih-chest-xray-labels.csv")
    return unpack("BBox_List_2017.csv.gz", root / "BBox_List_2017.csv")


def test_nih_chestxray14(nih: Path) -> None:
    rows = read_index(load_card("chestxray14"), nih)
    assert (len(rows), len(np.unique(rows.patients))) == (112_120, 30_805)
    assert dict(zip(*np.unique(rows.traits["view_position"], return_counts=True), strict=True)) == {"PA": 67_310, "AP": 44_810}
    assert set(np.unique(rows.traits["sex"])) == {"F", "M"}
    assert set(np.unique(rows.labels)) == {0, 1}
    # As the lists of the benchmark count the three parts of the official split, together.
    train = (7205, 1501, 7649, 12036, 3574, 4060, 770, 2244, 2480, 1210, 1250, 1083, 1927, 126)
    val = (1075, 206, 1010, 1746, 460, 648, 106, 393, 372, 168, 173, 168, 315, 15)
    test = (3279, 1069, 4658, 6112, 1748, 1623, 555, 2665, 1815, 925, 1093, 435, 1143, 86)
    assert list(positives(rows).values()) == [sum(part) for part in zip(train, val, test, strict=True)]


def test_nih_boxes(nih: Path) -> None:
    found = boxes_of(locate(load_card("chestxray14"), lambda place: nih))
    assert (len(found), len(np.unique(found.images))) == (984, 880)
    assert set(np.unique(found.labels)) == {
        *("atelectasis", "cardiomegaly", "pleural_effusion", "infiltration", "mass", "nodule", "pneumonia", "pneumothorax")
    }
    assert found.corners.min() >= 0
    assert found.corners.max() <= 1024


def test_nih_labels_by_radiologists(nih: Path) -> None:
    card = load_card("chestxray14_google")
    rows = read_index(card, nih)
    assert len(rows) == 4_376
    split = split_of(card, rows)
    assert ((split == "train") | (split == "val")).sum() == 2_414
    assert (split == "test").sum() == 1_962
    with (nih / "google2019_nih-chest-xray-labels.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert positives(rows) == {slug: sum(line[column] == "YES" for line in lines) for slug, column in card.labels.items()}


def test_rsna(tmp_path: Path) -> None:
    """The package has no table of classes: one is made here, with the class that `Target` implies where it is 1."""
    with zipfile.ZipFile(released("kaggle_stage_2_train_labels.csv.zip")) as archive:
        text = archive.read("stage_2_train_labels.csv").decode()
    (tmp_path / "stage_2_train_labels.csv").write_text(text, encoding="utf-8")
    lines = [line.split(",") for line in text.splitlines()[1:]]
    assert len(lines) == 30_227
    classes = [f"{line[0]},{'Lung Opacity' if line[-1] == '1' else 'Normal'}" for line in lines]
    (tmp_path / "stage_2_detailed_class_info.csv").write_text("\n".join(("patientId,class", *classes, "")), encoding="utf-8")
    card = load_card("rsna")
    rows = read_index(card, tmp_path)
    assert (len(rows), positives(rows)["lung_opacity"]) == (26_684, 6_012)
    assert len(boxes_of(locate(card, lambda place: tmp_path))) == sum(line[-1] == "1" for line in lines)
    with gzip.open(released("kaggle_stage_2_train_images_dicom_headers.csv.gz"), "rt", encoding="utf-8") as file:
        headers = {line["PatientID"]: line["ViewPosition"] for line in csv.DictReader(file)}
    assert set(headers) == set(rows.images.tolist())
    assert [sum(view == wanted for view in headers.values()) for wanted in ("PA", "AP")] == [14_511, 12_173]


def test_vindr_as_kaggle_has_it(tmp_path: Path) -> None:
    root = unpack("vinbigdata-train.csv.gz", tmp_path / "train.csv")
    with (root / "train.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    raters: dict[str, set[str]] = defaultdict(set)
    marked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in lines:
        raters[line["image_id"]].add(line["rad_id"])
        marked[line["image_id"], line["class_name"]].add(line["rad_id"])
    assert (len(lines), len(raters), len(set().union(*raters.values())), {len(who) for who in raters.values()}) == (67_914, 15_000, 17, {3})
    card = load_card("vindr_kaggle")
    for rule, least in (("any", 1), ("majority", 2)):
        rows = read_index(replace(card, options={"raters": rule}), root)
        assert len(rows) == 15_000
        wanted = {
            slug: sum(len(who) >= least for (_, name), who in marked.items() if name == column) for slug, column in card.labels.items()
        }
        assert positives(rows) == wanted
    assert len(boxes_of(locate(card, lambda place: root))) == 67_914 - 31_818


def test_siim(tmp_path: Path) -> None:
    root = unpack("siim-pneumothorax-train-rle.csv.gz", tmp_path / "stage_2_train.csv")
    lines = [line.split(",") for line in (root / "stage_2_train.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert (len(lines), sum(code.strip() == "-1" for _, code in lines)) == (12_954, 9_378)
    card = load_card("siim_stage_2")
    rows = read_index(card, root)
    assert (len(rows), positives(rows)) == (12_047, {"pneumothorax": 12_047 - 9_378})
    codes: dict[str, list[str]] = defaultdict(list)
    for image, code in lines:
        codes[image].append(code)
    repeated = [image for image, found in codes.items() if len(found) > 1]
    assert len(lines) - len(rows) == 907
    place = locate(card, lambda place: root)
    for image in repeated[:20]:
        parts = [sum(map(int, code.split()[1::2])) for code in codes[image]]
        area = int(masks_of(place, image)["pneumothorax"].sum())
        # No less than the largest part: all rows count, and not the last alone; parts may overlap.
        assert max(parts) <= area <= sum(parts)


def test_chexpert(tmp_path: Path) -> None:
    root = unpack("chexpert_train.csv.gz", tmp_path / "train.csv")
    (root / "valid.csv").write_text((root / "train.csv").read_text(encoding="utf-8").partition("\n")[0] + "\n", encoding="utf-8")
    rows = read_index(load_card("chexpert"), root)
    assert (len(rows), len(np.unique(rows.patients)), len(np.unique(rows.studies))) == (223_414, 64_540, 187_641)
    assert dict(zip(*np.unique(rows.views, return_counts=True), strict=True)) == {"frontal": 191_027, "lateral": 32_387}
    atelectasis = rows.labels[:, rows.label_names.index("atelectasis")]
    counts = [int((atelectasis == value).sum()) for value in (1, 0, -1)]
    assert [*counts, int(np.isnan(atelectasis).sum())] == [33_376, 1_328, 33_739, 154_971]
    assert set(np.unique(rows.labels[:, rows.label_names.index("no_finding")][~np.isnan(rows.labels[:, 0])])) == {1}
