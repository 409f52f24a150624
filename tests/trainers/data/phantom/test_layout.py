"""What lies on disk: CheXpert's layout, whole or not at all."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from trainers.data.phantom.layout import Made, read_image, write_chexpert
from trainers.data.phantom.layouts import chexpert as layout
from trainers.data.phantom.layouts.chexpert import COLUMN_OF, COLUMNS, DATASET
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render
from trainers.errors import DataError, DiskFull

SMALL = PhantomParameters(patients_train=8, patients_valid=4, px=32)


def rows_of(made: Made, split: str) -> list[dict[str, str]]:
    with open(made.root / DATASET / f"{split}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_layout_is_chexpert_s(tmp_path: Path) -> None:
    made = write_chexpert(tmp_path / "made", SMALL)
    assert made.written
    header = (made.root / DATASET / "train.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == (
        "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
        "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
    )
    train, valid = rows_of(made, "train"), rows_of(made, "valid")
    assert train[0]["Path"] == "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    assert valid[0]["Path"] == "CheXpert-v1.0-small/valid/patient00009/study1/view1_frontal.jpg"
    assert len({row["Path"].split("/")[2] for row in train}) == 8
    assert len({row["Path"].split("/")[2] for row in valid}) == 4
    on_disk = {str(path.relative_to(made.root)) for path in made.root.rglob("*.jpg")}
    assert on_disk == {row["Path"] for row in (*train, *valid)}
    assert made.images == len(on_disk)
    for row in (*train, *valid):
        assert row["Sex"] in ("Female", "Male")
        assert 18 <= int(row["Age"]) <= 90
        assert row["Frontal/Lateral"] == "Frontal"
        assert row["AP/PA"] in ("AP", "PA")
        for column in COLUMNS[5:]:
            assert row[column] in ("1.0", "0.0", "-1.0", "")
            assert column in (*COLUMN_OF.values(), "No Finding") or row[column] == ""
        if row["No Finding"]:
            assert {row[column] for column in COLUMN_OF.values()} <= {"0.0", ""}
    assert {row[column] for row in valid for column in COLUMN_OF.values()} == {"0.0", "1.0"}


def test_a_written_image_is_the_rendered_one_but_for_the_jpeg(tmp_path: Path) -> None:
    made = write_chexpert(tmp_path / "made", SMALL, px=64)
    study = next(studies(SMALL))
    read = read_image(made.root / rows_of(made, "train")[0]["Path"]).astype(float)
    assert np.abs(read - render(study, "frontal", px=64).image).mean() < 2.5


def test_the_second_call_returns_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_chexpert(tmp_path / "made", SMALL)
    before = contents(first.root)
    monkeypatch.setattr(layout, "render", None)
    second = write_chexpert(tmp_path / "made", SMALL)
    assert (first.written, second.written) == (True, False)
    assert (first.images, first.fingerprint, first.root) == (second.images, second.fingerprint, second.root)
    assert contents(second.root) == before


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    one, two = (write_chexpert(tmp_path / name, SMALL, extras=True) for name in ("one", "two"))
    assert contents(one.root) == contents(two.root)


def test_more_patients_change_nothing_of_the_first(tmp_path: Path) -> None:
    few, many = write_chexpert(tmp_path / "few", SMALL), write_chexpert(tmp_path / "many", SMALL, patients_train=20, patients_valid=0)
    small, large = contents(few.root / DATASET / "train"), contents(many.root / DATASET / "train")
    assert small.items() <= large.items()
    assert rows_of(many, "train")[: len(rows_of(few, "train"))] == rows_of(few, "train")


def test_made_json_names_what_was_made(tmp_path: Path) -> None:
    made = write_chexpert(tmp_path / "made", SMALL)
    content = json.loads((made.root / "MADE.json").read_text(encoding="utf-8"))
    assert {key: content[key] for key in ("generator", "version", "parameters")} == SMALL.fingerprint() == made.fingerprint
    assert content["images"] == made.images
    assert not (made.root / "MAKING.json").exists()


def test_an_unlabelled_pool_has_blank_labels_and_other_patients(tmp_path: Path) -> None:
    labelled = write_chexpert(tmp_path / "labelled", SMALL)
    pool = write_chexpert(tmp_path / "pool", SMALL, labelled=False, first_patient=100001, patients_valid=0)
    assert all(row[column] == "" for row in rows_of(pool, "train") for column in COLUMNS[5:])
    who = [{row["Path"].split("/")[2] for split in ("train", "valid") for row in rows_of(made, split)} for made in (labelled, pool)]
    assert not who[0] & who[1]
    assert "patient100001" in who[1]
    pictures = [{path.read_bytes() for path in made.root.rglob("*.jpg")} for made in (labelled, pool)]
    assert not pictures[0] & pictures[1]


def test_lateral_views_are_rows_of_their_own(tmp_path: Path) -> None:
    made = write_chexpert(tmp_path / "made", SMALL, views=("frontal", "lateral"), lateral_share=0.5, patients_train=30)
    rows = rows_of(made, "train")
    lateral = [row for row in rows if row["Frontal/Lateral"] == "Lateral"]
    frontal = {row["Path"].rsplit("/", 1)[0]: row for row in rows if row["Frontal/Lateral"] == "Frontal"}
    assert 0.2 < len(lateral) / len(frontal) < 0.8
    for row in lateral:
        assert row["Path"].endswith("view2_lateral.jpg")
        assert row["AP/PA"] == ""
        twin = frontal[row["Path"].rsplit("/", 1)[0]]
        assert [row[column] for column in COLUMNS[5:]] == [twin[column] for column in COLUMNS[5:]]
    only = write_chexpert(tmp_path / "only", SMALL, views=["lateral"])
    assert {row["Path"].rsplit("/", 1)[1] for row in rows_of(only, "train")} == {"view1_lateral.jpg"}


def test_extras_lie_beside_the_data_set(tmp_path: Path) -> None:
    made = write_chexpert(tmp_path / "made", SMALL, extras=True, px=64)
    extras = made.root / "extras"
    with open(extras / "latents.csv", encoding="utf-8", newline="") as file:
        latents = {row["Path"]: row for row in csv.DictReader(file)}
    assert set(latents) == {row["Path"] for split in ("train", "valid") for row in rows_of(made, split)}
    for row in rows_of(made, "valid"):
        assert (float(latents[row["Path"]]["margin_effusion"]) > 0) == (row["Pleural Effusion"] == "1.0")
    with open(extras / "boxes.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert found
    for box in found:
        name = "_".join(Path(box["Path"]).with_suffix(".png").parts[-3:])
        mask = read_image(extras / "masks" / box["finding"] / name)
        x, y, width, height = (int(box[key]) for key in ("x", "y", "width", "height"))
        assert mask[y : y + height, x : x + width].any(axis=0).all()
    with open(extras / "reports.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len({path.rsplit("/", 1)[0] for path in latents})
    assert len(list((extras / "masks" / "heart").iterdir())) == made.images


def test_other_parameters_and_other_files_are_left_alone(tmp_path: Path) -> None:
    made = write_chexpert(tmp_path / "made", SMALL)
    before = contents(made.root)
    with pytest.raises(DataError, match=r"holds made data with other parameters \(px 32, not 48; seed 0, not 1\): delete it, or choose"):
        write_chexpert(tmp_path / "made", SMALL, px=48, seed=1)
    assert contents(made.root) == before
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "train.csv").write_text("Path\n", encoding="utf-8")
    with pytest.raises(DataError, match="real holds files that are not made data: choose another place, or move them away"):
        write_chexpert(tmp_path / "real", SMALL)
    assert contents(tmp_path / "real") == {"train.csv": b"Path\n"}


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_chexpert(tmp_path / "made", SMALL)
    monkeypatch.setattr("trainers.data.phantom.parameters.VERSION", 99)
    with pytest.raises(DataError, match=r"other parameters \(generator version 1, not 99\)"):
        write_chexpert(tmp_path / "made", SMALL)


@pytest.mark.parametrize("damage", ["a label file is gone", "a label file is cut", "marked as half written", "empty"])
def test_what_is_half_written_is_made_again(tmp_path: Path, damage: str) -> None:
    made = write_chexpert(tmp_path / "made", SMALL)
    before = contents(made.root)
    if damage == "a label file is gone":
        (made.root / DATASET / "valid.csv").unlink()
    elif damage == "a label file is cut":
        (made.root / DATASET / "train.csv").write_text("Path\n", encoding="utf-8")
    elif damage == "marked as half written":
        (made.root / "MADE.json").rename(made.root / "MAKING.json")
        next(made.root.rglob("*.jpg")).unlink()
    else:
        (tmp_path / "made").rename(tmp_path / "away")
        (tmp_path / "made").mkdir()
    assert write_chexpert(tmp_path / "made", SMALL).written
    assert contents(tmp_path / "made") == before


def test_a_failure_leaves_nothing_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        return render(*args, **kwargs)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(layout, "render", full)
    with pytest.raises(DiskFull, match=r"made data could not be written \(No space left on device\): free some space, or set `made_root`"):
        write_chexpert(tmp_path / "made", SMALL)
    assert not (tmp_path / "made").exists()
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    monkeypatch.undo()
    assert write_chexpert(tmp_path / "made", SMALL).written


def _write(root: str, answers: multiprocessing.Queue[bool], patients: int) -> None:
    answers.put(write_chexpert(Path(root), SMALL, patients_train=patients).written)


def test_of_two_processes_one_writes_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    pair = [context.Process(target=_write, args=(str(tmp_path / "made"), answers, 60)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
    assert sorted(answers.get() for _ in pair) == [False, True]
    assert not write_chexpert(tmp_path / "made", SMALL, patients_train=60).written


def test_a_killed_writer_leaves_no_root_and_the_next_one_makes_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_write, args=(str(tmp_path / "made"), answers, 600))
    process.start()
    aside = tmp_path / ".made.making"
    while process.is_alive() and not next(aside.rglob("*.jpg"), None):
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert answers.empty()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "made").exists()
    assert write_chexpert(tmp_path / "made", SMALL, patients_train=60).written
    assert not aside.exists()


def test_an_image_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "view.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"view\.jpg: not an image that can be decoded"):
        read_image(tmp_path / "view.jpg")
