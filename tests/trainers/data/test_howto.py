"""The page on adding a data set is true: what it shows is laid down as it stands there, and read, without touching the tree."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator import cli
from trainers.data.cards import card_digest, load_card
from trainers.data.located import Located, locate
from trainers.data.open import open_data

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "add_a_data_set.md"
FILES = re.compile(r"^`([\w./]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^orchestrate .*$", re.MULTILINE)
IMAGES = ("clinic/png/a/00%d.png", "archive/p%d/scan.png")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in FILES.findall(PAGE.read_text(encoding="utf-8")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    names = [pattern % number for pattern in IMAGES for number in range(1, 7)]
    names += [f"ward/{name}.png" for name in ("anna_1", "anna_2", "bert_1", "cleo_1")]
    for value, name in enumerate(names):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "data" / name), np.full((20, 24), value, np.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("ward", "ward.reader"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def placed(site: Path, card: str) -> Located:
    return locate(load_card(card, [site / "cards"]), lambda place: site / "data" / place, [site / "cards"])


def splits(place: Located) -> dict[str, str]:
    rows = place.index()
    return dict(zip(rows.images.tolist(), place.split_of(rows).tolist(), strict=True))


def test_every_command_of_the_page_succeeds(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = COMMANDS.findall(PAGE.read_text(encoding="utf-8"))
    assert len(commands) == 5
    for command in commands:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
            patch.setattr("sys.argv", shlex.split(command))
            cli.main()
        assert ended.value.code in (0, None), (command, capsys.readouterr())


def test_the_table_says_what_the_page_says_it_does(site: Path) -> None:
    place = placed(site, "clinic")
    rows = place.index()
    assert rows.views.tolist() == ["frontal", "lateral", "frontal", "frontal", "frontal", "frontal"]
    assert rows.studies.tolist()[:3] == ["p1/1", "p1/1", "p2/1"]
    np.testing.assert_array_equal(rows.labels, np.array([[1, 0], [1, 0], [0, -1], [0, np.nan], [1, 1], [0, 0]], np.float32))
    assert list(splits(place).values()) == ["train", "train", "train", "val", "test", "test"]
    assert rows.traits["sex"].tolist() == ["F", "F", "M", "F", "M", "M"]
    source = {"card": "clinic", "card_sha256": card_digest(place.card), "files": place.label_digests()}
    access = open_data(source, None, lambda name: site / "data" / name, site / "cache", lambda split: True, [site / "cards"])
    test = access.rows("test")
    assert [int(access.images(20).image(position).max()) for position in test.position] == [4, 5]


def test_a_folder_has_patients_and_no_labels(site: Path) -> None:
    place = placed(site, "archive")
    rows = place.index()
    assert rows.patients.tolist() == [f"p{number}" for number in range(1, 7)]
    assert rows.labels.shape == (6, 0) and set(splits(place).values()) == {"train"}


def test_lists_split_what_they_name(site: Path) -> None:
    found = splits(placed(site, "clinic_lists"))
    assert found["a/005.png"] == "test" and found["a/006.png"] == ""
    assert {found[f"a/00{number}.png"] for number in range(1, 5)} == {"train", "val"}


def test_a_reader_from_outside_reads_and_its_text_is_in_the_digest(site: Path) -> None:
    place = placed(site, "ward")
    rows = place.index()
    assert rows.patients.tolist() == ["anna", "anna", "bert", "cleo"] and rows.labels[:, 0].tolist() == [1, 0, 0, 1]
    before = card_digest(place.card)
    file = site / "cards" / "ward" / "reader.py"
    file.write_text(file.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    assert card_digest(place.card) != before
