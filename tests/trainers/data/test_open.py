from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainers.data.layouts import csv_row, write_csv
from trainers.data.access import Access
from trainers.data.cards import card_digest, load_card
from trainers.data.draws import draw_digest
from trainers.data.index import label_digests
from trainers.data.located import locate
from trainers.data.open import open_data
from trainers.data.verify import verify_card
from trainers.errors import DataError, SplitClosed

CARD = load_card("chexpert")


def reference(root: Path, **changes: Any) -> dict[str, Any]:
    return {"card": "chexpert", "card_sha256": card_digest(CARD), "files": label_digests(CARD, root), **changes}


def opened(root: Path, draw: Mapping[str, Any] | None = None, shut: tuple[str, ...] = (), **changes: Any) -> Access:
    source = reference(root, **changes)
    return open_data(source, draw, lambda name: {"chexpert": root}[name], root.parent / "cache", lambda split: split not in shut)


def test_a_job_gets_its_splits(chexpert: Path) -> None:
    access = opened(chexpert)
    splits = {name: set(access.rows(name).patients.tolist()) for name in ("train", "val", "test")}
    assert all(splits.values())
    assert sum(map(len, splits.values())) == len(set.union(*splits.values())) == 16
    assert access.find("held_out") is None
    assert access.draw_facts() is None
    assert access.policies == CARD.policies


def test_a_draw_cuts_train_and_nothing_else(chexpert: Path) -> None:
    whole, drawn = opened(chexpert), opened(chexpert, {"count": 4, "index": 1})
    for split in ("val", "test"):
        assert drawn.rows(split).images.tolist() == whole.rows(split).images.tolist()
    assert drawn.draw_facts() is None
    train = drawn.rows("train")
    assert len(set(train.patients)) == 4
    assert set(train.images) < set(whole.rows("train").images)
    facts = drawn.draw_facts()
    assert facts is not None
    assert facts["sha256"] == draw_digest(train)
    assert (facts["n_patients"], facts["n_images"]) == (4, 8)


def test_folds_come_as_held_out(chexpert: Path) -> None:
    access = opened(chexpert, {"scheme": "kfold", "folds": 3, "fold": 1})
    train, held_out = access.rows("train"), access.rows("held_out")
    assert not set(train.patients) & set(held_out.patients)
    assert set(train.images) | set(held_out.images) == set(opened(chexpert).rows("train").images)


def test_views_can_be_chosen(chexpert: Path) -> None:
    access = opened(chexpert, views=["lateral"])
    for split in ("train", "test"):
        assert set(access.rows(split).views) == {"lateral"}
    with pytest.raises(DataError, match="no training image with a view among oblique"):
        opened(chexpert, views=["oblique"]).rows("train")


def test_a_shut_split_stays_shut_with_its_images(chexpert: Path) -> None:
    access = opened(chexpert, shut=("test",))
    with pytest.raises(SplitClosed):
        access.rows("test")
    position = opened(chexpert).rows("test").position[0]
    access.rows("train")
    store = access.images(16)
    with pytest.raises(SplitClosed):
        store.image(position)
    with pytest.raises(SplitClosed):
        store.file_shape(position)


def test_images_belong_to_their_rows(chexpert: Path) -> None:
    access = opened(chexpert)
    rows = access.rows("test")
    store = access.images(20)
    import cv2

    for image, position in zip(rows.images, rows.position, strict=True):
        np.testing.assert_array_equal(store.image(position), cv2.imread(str(chexpert / image), cv2.IMREAD_GRAYSCALE))
        assert store.file_shape(position) == (20, 26)


def test_another_card_or_label_file_is_refused(chexpert: Path) -> None:
    source = reference(chexpert)
    with pytest.raises(DataError, match=r"card 'chexpert' has changed since the job was planned \(0000"):
        opened(chexpert, card_sha256="0" * 64)
    text = (chexpert / "train.csv").read_text(encoding="utf-8")
    (chexpert / "train.csv").write_text(text.replace("68", "69"), encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.csv of data set 'chexpert' at .* has changed since the job was planned"):
        opened(chexpert, files=source["files"])
    with pytest.raises(DataError, match=r"more\.csv of data set .* absent now"):
        opened(chexpert, files={"more.csv": "0" * 64})


MADE = {"generator": "phantom", "version": 1, "parameters": {"seed": 0, "px": 64, "views": ["frontal"]}}


def test_made_data_is_never_taken_for_real(chexpert: Path) -> None:
    (chexpert / "MADE.json").write_text(json.dumps(MADE), encoding="utf-8")
    with pytest.raises(DataError, match=r"holds made data \(phantom\), and the job is for the real 'chexpert'"):
        opened(chexpert)
    assert len(opened(chexpert, made=MADE).rows("train"))
    assert len(opened(chexpert, made={"generator": "phantom", "parameters": {"px": 64}}).rows("train"))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({**MADE, "version": 2}, "has version 1, and the job needs 2"),
        ({**MADE, "generator": "other"}, "has generator 'phantom', and the job needs 'other'"),
        ({**MADE, "parameters": {**MADE["parameters"], "seed": 3}}, "has seed 0, and the job needs 3"),
    ],
)
def test_other_made_data_is_refused(chexpert: Path, made: dict[str, Any], message: str) -> None:
    (chexpert / "MADE.json").write_text(json.dumps(MADE), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        opened(chexpert, made=made)


def test_a_made_job_on_real_data_is_refused(chexpert: Path) -> None:
    with pytest.raises(DataError, match=r"no made data \(no MADE\.json\)"):
        opened(chexpert, made=MADE)


def test_shipped_data_needs_no_place(tmp_path: Path) -> None:
    card = load_card("kermany16")
    assert card.shipped_root is not None
    source = {"card": "kermany16", "card_sha256": card_digest(card), "files": label_digests(card, card.shipped_root)}

    def nowhere(name: str) -> Path:
        raise AssertionError(f"asked where {name} is")

    access = open_data(source, {"scheme": "leave_pair_out", "fold": 8}, nowhere, tmp_path, lambda split: True)
    assert len(access.rows("train")) + len(access.rows("held_out")) == 16
    assert access.find("val") is None
    store = access.images(224)
    rows = access.rows("train")
    assert {min(store.image(position).shape) for position in rows.position} == {224}
    assert {min(store.file_shape(position)) for position in rows.position} == {320}


def test_made_phantoms_are_read_by_their_card(tmp_path: Path) -> None:
    layout = pytest.importorskip("trainers.data.phantom.layout")
    made = layout.write_chexpert(tmp_path / "made", patients_train=20, patients_valid=5, px=32)
    card = load_card("phantom")
    fingerprint = json.loads(json.dumps(dict(made.fingerprint)))
    source = {"card": "phantom", "card_sha256": card_digest(card), "files": label_digests(card, made.root), "made": fingerprint}
    access = open_data(source, None, lambda name: made.root, tmp_path / "cache", lambda split: True)
    counts = {split: len(set(access.rows(split).patients.tolist())) for split in ("train", "val", "test")}
    assert counts["train"] + counts["val"] == 20
    assert counts["test"] == 5
    assert access.images(32).image(int(access.rows("train").position[0])).shape == (32, 32)


# --- verify -----------------------------------------------------------------------------------------------------------------------------


def test_a_sound_data_set_has_no_error(chexpert: Path) -> None:
    findings = verify_card(locate(CARD, lambda _: chexpert))
    assert {finding.level for finding in findings} <= {"ok", "warning"}
    text = "\n".join(finding.text for finding in findings)
    assert "all: 32 images, 16 studies, 16 patients" in text
    assert "test: 8 images, 4 studies, 4 patients" in text
    assert "images: 32 of 32 looked at, 0 cannot be read" in text


def test_broken_images_are_counted_and_named(chexpert: Path) -> None:
    broken = chexpert / "train/patient00003/study1/view2_lateral.jpg"
    broken.write_bytes(broken.read_bytes()[:-50])
    (chexpert / "valid/patient01002/study1/view1_frontal.jpg").unlink()
    errors = [finding.text for finding in verify_card(locate(CARD, lambda _: chexpert), sample=None) if finding.level == "error"]
    assert "images: 32 of 32 looked at, 2 cannot be read" in errors
    assert any(str(broken) in text and "truncated" in text for text in errors)
    assert any("patient01002" in text and "missing" in text for text in errors)


def test_a_sample_of_images_is_looked_at(chexpert: Path) -> None:
    assert any("images: 5 of 32 looked at" in finding.text for finding in verify_card(locate(CARD, lambda _: chexpert), sample=5))


def test_patients_that_cross_splits_are_an_error(chexpert: Path) -> None:
    write_csv(chexpert / "valid.csv", [csv_row("valid/patient00003/study9/view1_frontal.jpg")])
    findings = verify_card(locate(CARD, lambda _: chexpert))
    assert findings[-1].level == "error"
    assert "patient00003 (test and train)" in findings[-1].text
