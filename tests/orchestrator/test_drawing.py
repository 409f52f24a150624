"""The command `data draws`: files in the original columns, and the way back from them to the same draw."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.orchestrator.test_cli import Site
from tests.trainers.data.layouts import HEADER, write_chexpert
from trainers.data.cards import load_card
from trainers.data.draws import draw_digest
from trainers.data.located import locate

SWEEP = """
sweep: drawn
data: chexpert
phases:
  finetune:
    trainer: classification
    draws: {fraction: [0.3, 0.6], repeats: 2, nested_fractions: true}
    pick: {metric: val/loss}
"""
LISTS = "splits:\n  lists: {train: %s, val: all_val.csv, test: all_test.csv}\n  unlisted: leave_out\n"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    write_chexpert(tmp_path / "one", 24)
    text = made.config.read_text(encoding="utf-8")
    made.config.write_text(f"{text}data: {{chexpert: {tmp_path}/one}}\n", encoding="utf-8")
    made.sweep.write_text(SWEEP, encoding="utf-8")
    return made


def cells(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.reader(opened))


def exported(site: Site, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Path, list[dict[str, Any]]]:
    folder = site.folder / "draws"
    code, out, err = site.type(capsys, "data", "draws", *(arguments or (str(site.sweep),)), "--export", "csv", str(folder))
    assert code == 0, out + err
    return folder, json.loads((folder / "draws.json").read_text(encoding="utf-8"))


def test_draws_are_lines_of_the_label_file_under_the_names_of_the_originals(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder, told = exported(site, capsys)
    names = [f"train_semi_{size}-it{index}.csv" for size in ("0.3", "0.6") for index in (0, 1)]
    assert [line["file"] for line in told] == names
    assert sorted(file.name for file in (folder / "chexpert").iterdir()) == sorted([*names, "all_train.csv", "all_val.csv", "all_test.csv"])
    whole = cells(site.folder / "one/train.csv")
    for line in told:
        header, *rows = cells(folder / "chexpert" / line["file"])
        assert header == whole[0] == list(HEADER) and len(header) == 19
        assert all(row in whole for row in rows) and len(rows) == line["n_images"]
        assert rows[0][0].startswith("CheXpert-v1.0-small/train/patient")
    # Every row of the label files is in one of the parts.
    parts = [row for name in ("train", "val", "test") for row in cells(folder / f"chexpert/all_{name}.csv")[1:]]
    assert sorted(parts) == sorted(whole[1:] + cells(site.folder / "one/valid.csv")[1:])


def test_draws_of_random_size_are_those_of_a_loop_over_the_rows_of_the_pool(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.sweep.write_text(SWEEP.replace("nested_fractions: true", "by: image, sizes: random, seed: 3"), encoding="utf-8")
    folder, told = exported(site, capsys)
    header, *pool = cells(folder / "chexpert/all_train.csv")
    numbers = random.Random(3)
    expected: dict[str, list[list[str]]] = {line["file"]: [header] for line in told}
    for row in pool:
        for size in (0.3, 0.6):
            for index in (0, 1):
                if numbers.random() < size:
                    expected[f"train_semi_{size}-it{index}.csv"].append(row)
    assert len({len(rows) for rows in expected.values()}) > 2
    for name, rows in expected.items():
        assert cells(folder / "chexpert" / name) == rows


def test_a_file_read_back_as_the_label_file_is_the_same_draw(site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder, told = exported(site, capsys)
    for line in told:
        root = tmp_path / "back" / line["file"]
        root.mkdir(parents=True)
        (root / "train.csv").write_bytes((folder / "chexpert" / line["file"]).read_bytes())
        (root / "valid.csv").write_bytes((site.folder / "one/valid.csv").read_bytes())
        place = locate(load_card("chexpert"), lambda _, root=root: root)
        rows = place.index()
        assert draw_digest(rows.take(np.char.startswith(rows.images, "train/"))) == line["sha256"]


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0-small/", "/scratch/somebody/CheXpert-v1.0/"])
def test_a_list_in_the_original_columns_is_a_split(site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path, prefix: str) -> None:
    folder, told = exported(site, capsys)
    file = folder / "chexpert" / told[1]["file"]
    file.write_text(file.read_text(encoding="utf-8").replace("CheXpert-v1.0-small/", prefix), encoding="utf-8")
    shipped = Path("trainers/data/cards/chexpert.yaml").read_text(encoding="utf-8")
    start, end = shipped.index("splits:"), shipped.index("traits:")
    text = shipped[:start] + LISTS % told[1]["file"] + shipped[end:]
    text = text.replace("name: chexpert\n", "name: mine\nroot: chexpert\n")
    (folder / "chexpert/mine.yaml").write_text(text, encoding="utf-8")
    place = locate(load_card("mine", [folder / "chexpert"]), lambda _: site.folder / "one")
    rows = place.index()
    split = place.split_of(rows)
    assert draw_digest(rows.take(split == "train")) == told[1]["sha256"]
    assert (split == "test").sum() == 8 and (split == "").sum() > 0
    assert told[1]["file"] in place.label_digests()


def test_folds_come_with_what_they_hold_out(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    text = SWEEP.replace("{fraction: [0.3, 0.6], repeats: 2, nested_fractions: true}", "{scheme: kfold, folds: 3}")
    site.sweep.write_text(text, encoding="utf-8")
    folder, told = exported(site, capsys)
    assert [line["file"] for line in told] == [f"train_fold{fold}-it0.csv" for fold in range(3)]
    pool = cells(folder / "chexpert/all_train.csv")[1:]
    for fold in range(3):
        both = cells(folder / f"chexpert/train_fold{fold}-it0.csv")[1:] + cells(folder / f"chexpert/held_out_fold{fold}-it0.csv")[1:]
        assert sorted(both) == sorted(pool)


def test_a_card_is_drawn_from_as_options_say(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = site.type(capsys, "data", "draws", "chexpert", "--count", "4", "--fraction", "0.5", "--repeats", "2", "--json")
    told = json.loads(out)
    assert code == 0 and [line["file"] for line in told] == [f"train_semi_{size}-it{at}.csv" for size in ("0.5", "n4") for at in (0, 1)]
    assert [line["n_patients"] for line in told[2:]] == [4, 4]
    code, out, _ = site.type(capsys, "data", "draws", str(site.sweep))
    assert code == 0 and out.count("train_semi_0.6-it") == 2


def test_a_layout_without_columns_of_its_own_gets_ours(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    folder, told = exported(site, capsys, "kermany16", "--count", "6")
    header, *rows = cells(folder / "kermany16/train_semi_n6-it0.csv")
    assert header == ["image", "patient", "study", "view", "pneumonia"]
    assert len(rows) == told[0]["n_images"] and {row[4] for row in rows} == {"0", "1"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("chexpert",), "no size to draw from 'chexpert': add --fraction 0.01 or --count 64"),
        (("chexpert", "--fraction", "2"), "draws.fraction: 2.0 is not between 0 and 1"),
        (("chexpert", "--count", "4", "--by", "ward"), "draws.by: 'ward' is none of patient, study, image"),
        (("chexpert", "--count", "400"), "400 patient units asked for"),
        (("chexpert", "--count", "4", "--export", "xlsx", "x"), "--export xlsx: there is csv"),
        (("chexpert", "--count", "4", "--export", "csv"), "--export csv and a folder to write to go together"),
        (("none.yaml",), "none.yaml"),
    ],
)
def test_what_a_person_typed_wrong(site: Site, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    code, _, err = site.type(capsys, "data", "draws", *arguments)
    assert code == 2 and sentence in " ".join(err.replace("│", " ").split()), err


def test_made_data_has_to_be_there(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.sweep.write_text(SWEEP.replace("data: chexpert", "data: phantom"), encoding="utf-8")
    code, _, err = site.type(capsys, "data", "draws", str(site.sweep))
    assert code == 2 and f"make it first: orchestrate data prepare {site.sweep}" in " ".join(err.split())
