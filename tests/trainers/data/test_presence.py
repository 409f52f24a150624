from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trainers.data import presence
from trainers.data.access import Access
from trainers.data.cards import card_digest, load_card
from trainers.data.index import label_digests
from trainers.data.open import open_data
from trainers.data.presence import missing_images, remembered_missing
from trainers.errors import DataError
from trainers.training import used

CARD = load_card("chexpert")
#: Training patients of the fixture are 1 to 12, validation patients (here the test split) 1001 to 1004; each has two images.
TRAIN = "train/patient{:05d}/study1/view1_frontal.jpg"
TEST = "valid/patient01002/study1/view2_lateral.jpg"


def opened(root: Path, draw: Mapping[str, Any] | None = None, shut: tuple[str, ...] = (), **changes: Any) -> Access:
    source = {"card": "chexpert", "card_sha256": card_digest(CARD), "files": label_digests(CARD, root), **changes}
    return open_data(source, draw, lambda _: root, root.parent / "cache", lambda split: split not in shut)


def refused(root: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as error:
        opened(root, **changes)
    return str(error.value)


def take_away(root: Path, *images: str) -> None:
    for image in images:
        (root / image).unlink()


def test_missing_images_are_named_and_counted_before_anything_is_done(chexpert: Path) -> None:
    images = opened(chexpert).rows("train").images.tolist()
    take_away(chexpert, *images[:12])
    text = refused(chexpert)
    shown = ", ".join(images[:10])
    assert f"data set 'chexpert' at {chexpert} lacks 12 of {len(images)} images: {shown} and 2 more: copy them again" in text
    assert "or write `missing: skip` in the sweep, which leaves them out and says so in the report" in text
    assert images[10] not in text


def test_a_stage_looks_at_what_it_may_open_and_at_the_rest_when_it_may(chexpert: Path) -> None:
    take_away(chexpert, TEST)
    assert f"lacks 1 of 8 images: {TEST}: copy" in refused(chexpert)
    shut = ["test"]
    source = {"card": "chexpert", "card_sha256": card_digest(CARD), "files": label_digests(CARD, chexpert)}
    access = open_data(source, None, lambda _: chexpert, chexpert.parent / "cache", lambda split: split not in shut)
    assert len(access.rows("train"))
    shut.clear()
    with pytest.raises(DataError, match="lacks 1 of 8 images"):
        access.rows("test")
    skipping = opened(chexpert, shut=("test",), missing="skip").left_out()
    assert skipping is not None
    assert sorted(skipping) == ["train", "val"]


def test_a_view_that_is_not_used_is_not_missed(chexpert: Path) -> None:
    take_away(chexpert, TEST)
    assert len(opened(chexpert, views=["frontal"]).rows("test")) == 4
    assert "lacks 1 of 4 images" in refused(chexpert, views=["lateral"])


def test_skip_leaves_rows_out_in_every_split_and_counts_them(chexpert: Path) -> None:
    whole = opened(chexpert)
    train = whole.rows("train").images.tolist()
    take_away(chexpert, train[0], train[3], TEST)
    access = opened(chexpert, missing="skip")
    assert access.rows("train").images.tolist() == [image for image in train if image not in (train[0], train[3])]
    assert TEST not in access.rows("test").images.tolist()
    left_out = access.left_out()
    assert left_out is not None
    assert {split: (one["images"], one["of"]) for split, one in left_out.items()} == {
        "train": (2, len(train)),
        "val": (0, len(whole.rows("val"))),
        "test": (1, 8),
    }
    assert left_out["test"]["sha256"] == hashlib.sha256(TEST.encode()).hexdigest()
    assert used(access)["left_out"] == left_out
    # Streams of augmentation and stores know an image by its place in the whole index.
    place = dict(zip(train, whole.rows("train").position.tolist(), strict=True))
    assert access.rows("train").position.tolist() == [place[image] for image in access.rows("train").images.tolist()]
    assert access.images(16).image(access.rows("train").position[0]).shape == (16, 21)


def test_a_draw_is_of_what_there_is(chexpert: Path) -> None:
    gone = [TRAIN.format(number).replace("view1_frontal", view) for number in range(1, 13) for view in ("view1_frontal", "view2_lateral")]
    take_away(chexpert, *gone[:6])
    rows = opened(chexpert, {"count": 3, "index": 1}, missing="skip").rows("train")
    assert len(set(rows.patients)) == 3
    assert not set(rows.images.tolist()) & set(gone[:6])


def test_skip_with_nothing_missing_says_so(chexpert: Path) -> None:
    left_out = opened(chexpert, missing="skip").left_out()
    assert left_out is not None
    assert {one["images"] for one in left_out.values()} == {0}
    assert opened(chexpert).left_out() is None
    assert "left_out" not in used(opened(chexpert))


def test_a_data_set_of_which_nothing_is_there(chexpert: Path) -> None:
    count = len(opened(chexpert).rows("train"))
    for image in chexpert.rglob("*.jpg"):
        image.unlink()
    assert f"lacks {count} of {count} images" in refused(chexpert)
    with pytest.raises(DataError, match=rf"has no training image with a view among frontal, lateral \({count} images are missing and left"):
        opened(chexpert, missing="skip").rows("train")


def test_a_folder_is_listed_once_and_no_file_is_asked_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / folder / f"{number}.png" for number in range(50) for folder in ("a", "b")]
    for file in files[:-3]:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    listed: list[str] = []
    scandir = os.scandir

    def count(folder: Path) -> Any:
        listed.append(Path(folder).name)
        return scandir(folder)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked after a single file")

    monkeypatch.setattr(os, "scandir", count)
    monkeypatch.setattr(Path, "stat", never)
    assert missing_images(files) == [97, 98, 99]
    assert sorted(listed) == ["a", "b"]


def test_folders_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert missing_images([tmp_path / "gone" / "a.png", tmp_path / "file" / "a.png", tmp_path / "file"]) == [0, 1]
    with pytest.raises(DataError, match=r"folder .*/loop cannot be listed \(Too many levels of symbolic links\): check the disk"):
        missing_images([tmp_path / "loop" / "a.png"])


def test_data_in_very_many_folders_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "REMEMBERED_FROM", 2)
    names = [f"{folder}/{number}.png" for folder in range(3) for number in range(4)]
    files = [tmp_path / "data" / name for name in names]
    for file in files[2:]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    cache, about = tmp_path / "cache", {"files": {"train.csv": "a"}}
    assert remembered_missing(names, files, cache, about) == [0, 1]
    (kept,) = (cache / "present").iterdir()

    def never(_: Any) -> list[int]:
        raise AssertionError("listed again")

    with monkeypatch.context() as patch:
        patch.setattr(presence, "missing_images", never)
        assert remembered_missing(names, files, cache, about) == [0, 1]
        files[1].touch()  # copied since
        assert remembered_missing(names, files, cache, about) == [0]
        for other in ({"files": {"train.csv": "b"}}, {"files": {}}):
            with pytest.raises(AssertionError, match="listed again"):
                remembered_missing(names, files, cache, other)
    for damage in ("", "{}", "[99]", '["x"]', "[null]"):
        kept.write_text(damage, encoding="utf-8")
        assert remembered_missing(names, files, cache, about) == [0]
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.touch()  # a cache that cannot be written is no fault
    assert remembered_missing(names, files, cache, about) == [0]
