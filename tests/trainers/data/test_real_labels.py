"""Readers on the label files of real releases, which come inside a package: the counts that the data sets are known by."""

from __future__ import annotations

import csv
import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from trainers.data.access import Rows
from trainers.data.cards import load_card
from trainers.data.index import read_index
from trainers.data.located import locate
from trainers.data.regions import boxes_of
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
