"""The command `data verify`: cards, sweeps, what is written, and what it exits with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.orchestrator.test_cli import Site
from tests.trainers.data.layouts import write_chexpert

SWEEP = """
sweep: two
data: phantom
phases:
  pretrain: {trainer: moco_cxr, data: phantom_unlabelled, config: {epochs: 1}}
  finetune:
    trainer: classification
    after: pretrain
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
"""
TRAINED, TESTED = "train/patient00001/study1/view1_frontal.jpg", "valid/patient01001/study1/view1_frontal.jpg"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    for name, patients in (("one", 12), ("two", 9)):
        write_chexpert(tmp_path / name, patients)
    rng = np.random.default_rng(9)
    for file in sorted((tmp_path / "two").rglob("*.jpg")):
        cv2.imwrite(str(file), rng.integers(0, 256, (20, 26), dtype=np.uint8))
    (tmp_path / "cards").mkdir()
    shipped = Path("trainers/data/cards/chexpert.yaml").read_text(encoding="utf-8").replace("root: chexpert\n", "")
    (tmp_path / "cards/other.yaml").write_text(shipped.replace("name: chexpert\n", "name: other\n"), encoding="utf-8")
    text = made.config.read_text(encoding="utf-8")
    made.config.write_text(
        f"{text}data: {{chexpert: {tmp_path}/one, other: {tmp_path}/two}}\ncard_paths: [{tmp_path}/cards]\n", encoding="utf-8"
    )
    return made


def test_two_cards_are_compared_both_ways_and_written(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    file = site.folder / "found.json"
    code, out, _ = site.type(capsys, "data", "verify", "chexpert", "--against", "other", "--json", str(file))
    assert code == 0, out
    assert "no image of other (test) among images that training on 'chexpert' opens (8 and 24 looked at)" in out
    assert "no image of chexpert (test) among images that training on 'other' opens (8 and 18 looked at)" in out
    # A few made files are no whole release.
    assert "warning  all: 32 images, and the release has 223,648" in out
    told = json.loads(file.read_text())
    assert (told["errors"], told["verified"], told["same_image"]["bits"]) == (0, "chexpert", 256)
    assert (site.folder / "found.md").read_text().startswith("# chexpert\n")
    shutil.copy(
        site.folder / "two/train/patient00001/study1/view1_frontal.jpg", site.folder / "one/valid/patient01001/study1/view1_frontal.jpg"
    )
    code, out, _ = site.type(capsys, "data", "verify", "chexpert", "--against", "other", "--json", str(file))
    assert code == 2
    assert "1 images of chexpert (test) among images that training on 'other' opens: train/patient00001/study1/view1_frontal.jpg (" in out
    (pairs,) = [one["pairs"] for one in json.loads(file.read_text())["copies"] if one["pairs"]]
    assert pairs[0]["second"]["image"] == "valid/patient01001/study1/view1_frontal.jpg" and pairs[0]["bits"] == 0
    assert "| valid/patient01001/study1/view1_frontal.jpg | test | 0 | 1.0 |" in (site.folder / "found.md").read_text()


def test_a_sweep_s_training_is_set_against_its_test_sets(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = site.folder / "two.yaml"
    small = SWEEP.replace("chexpert", "other")
    sweep.write_text(
        small.replace("data: phantom_unlabelled", "data: chexpert").replace("data: phantom\n", "data: other\n"), encoding="utf-8"
    )
    code, out, _ = site.type(capsys, "data", "verify", str(sweep))
    assert code == 0, out
    assert "no image of other (test) among images that training on 'chexpert' opens (8 and 24 looked at)" in out
    assert "no image of other (test) among images that training on 'other' opens (8 and 18 looked at)" in out
    shutil.copy(
        site.folder / "one/train/patient00002/study1/view1_frontal.jpg", site.folder / "two/valid/patient01002/study1/view1_frontal.jpg"
    )
    code, out, _ = site.type(capsys, "data", "verify", str(sweep))
    assert code == 2 and "1 images of other (test) among images that training on 'chexpert' opens" in out


def test_made_data_of_a_sweep_has_to_be_there(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = site.folder / "made.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    code, _, err = site.type(capsys, "data", "verify", str(sweep))
    assert code == 2 and f"make it first: orchestrate data prepare {sweep}" in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("chexpret",), "did you mean 'chexpert'?"),
        (("phantom",), "'phantom' is made by sweeps that use it"),
        (("chexpert", "--against", "othre"), "did you mean 'other'?"),
        (("kermany16", "--json", "nowhere/x.json"), "there is no folder nowhere"),
        (("kermany16", "--json", "x.md"), "name it .json"),
        (("none.yaml",), "none.yaml"),
    ],
)
def test_what_a_person_typed_wrong(site: Site, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    code, _, err = site.type(capsys, "data", "verify", *arguments)
    assert code == 2 and sentence in " ".join(err.split()), err
