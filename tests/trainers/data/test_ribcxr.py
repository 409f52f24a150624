from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainers.data.cards import load_card
from trainers.data.index import image_files, read_index
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.regions import masks_of
from trainers.errors import DataError

CARD = load_card("vindr_ribcxr")
RIBS = tuple(CARD.labels.values())
SQUARE = [{"x": 4.0, "y": 2.0}, {"x": 9.2, "y": 2.0}, {"x": 9.2, "y": 6.0}, {"x": 4.0, "y": 6.0}]


def content(split: str, polygon: Any = None) -> dict[str, Any]:
    images = {str(number): f"data/{split}/img/VinDr_RibCXR_{split}_{number:03d}.png" for number in range(2)}
    ribs = {rib: dict.fromkeys(images, polygon or SQUARE) for rib in RIBS}
    ribs["L10"] = {"0": SQUARE, "1": None}
    return {"img": images, **ribs}


def write(root: Path, train: Any = None, folder: str = "data/{}") -> Path:
    for split in ("train", "val"):
        place = root / folder.format(split)
        (place / "img").mkdir(parents=True, exist_ok=True)
        made = train if train is not None and split == "train" else content(split)
        (place / f"Vindr_RibCXR_{split}_mask.json").write_text(json.dumps(made), encoding="utf-8")
        for number in range(2):
            cv2.imwrite(str(place / "img" / f"VinDr_RibCXR_{split}_{number:03d}.png"), np.full((12, 20), 90, np.uint8))
    return root


def fault(root: Path, image: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_index(CARD, root) if image is None else masks_of(locate(CARD, lambda place: root), image)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_twenty_ribs_from_above(tmp_path: Path) -> None:
    assert tuple(f"{side}{number}" for side in "RL" for number in range(1, 11)) == RIBS
    assert CARD.label_names[0] == "right_rib_1"


@pytest.mark.parametrize("folder", ["data/{}", "{}", "VinDr-RibCXR/data/{}"])
def test_images_splits_and_which_ribs_have_a_polygon(tmp_path: Path, folder: str) -> None:
    root = write(tmp_path, folder=folder)
    rows = read_index(CARD, root)
    assert rows.images.tolist() == [f"VinDr_RibCXR_{split}_{number:03d}" for split in ("train", "val") for number in range(2)]
    assert rows.given is not None
    assert rows.given.tolist() == ["train", "train", "val", "val"]
    assert (rows.labels[:, :-1] == 1).all()
    np.testing.assert_array_equal(rows.labels[:, -1], [1, np.nan, 1, np.nan])
    assert all(path.is_file() for path in image_files(CARD, root, rows.images.tolist()))


def test_a_polygon_is_filled_in_pixels_of_the_file(tmp_path: Path) -> None:
    place = locate(CARD, lambda place: write(tmp_path))
    masks = masks_of(place, "VinDr_RibCXR_val_001")
    assert len(masks) == 19, "the tenth left rib of this image has no polygon"
    mask = masks["right_rib_1"]
    assert (mask.shape, mask.dtype) == ((12, 20), np.uint8)
    where = np.argwhere(mask)
    assert (where.min(axis=0).tolist(), where.max(axis=0).tolist()) == ([2, 4], [6, 9])
    with pytest.raises(DataError, match=r"image .*nobody.* is missing"):
        masks_of(place, "nobody")


@pytest.mark.parametrize(
    "polygon", [SQUARE[:2], [{"x": 1}] * 3, [{"x": "a", "y": 1}] * 3, [{"x": float("nan"), "y": 1}] * 3, [1, 2, 3], "abc"]
)
def test_a_polygon_that_is_none_is_named(tmp_path: Path, polygon: Any) -> None:
    write(tmp_path, content("train", polygon))
    assert "mask.json: right_rib_1 of image 0: is no polygon (three points or more" in fault(tmp_path, "VinDr_RibCXR_train_000")


def test_a_file_without_a_rib(tmp_path: Path) -> None:
    less = content("train")
    del less["R7"]
    assert "mask.json: has no 'R7', which would be a mapping" in fault(write(tmp_path, less))
    assert "mask.json: has no 'img'" in fault(write(tmp_path, [1]))
    (tmp_path / "data/train/Vindr_RibCXR_train_mask.json").write_text("{", encoding="utf-8")
    assert "mask.json:1: is not JSON" in fault(tmp_path)


def test_two_copies_are_refused(tmp_path: Path) -> None:
    write(write(tmp_path), folder="copy/{}")
    assert "keep one of them" in fault(tmp_path)


def test_made_ribs_lie_where_the_picture_is_lighter_than_beside_them(tmp_path: Path) -> None:
    made = write_made(tmp_path / "made", PhantomParameters(patients_train=3, patients_valid=1, px=256, strength=0.0), "ribcxr")
    place = locate(CARD, lambda place: made.root)
    images = place.index().images.tolist()
    lighter = []
    for image, file in zip(images, place.files(images), strict=True):
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        masks = masks_of(place, image)
        assert len(masks) == 20
        every = np.clip(sum(mask.astype(int) for mask in masks.values()), 0, 1).astype(np.uint8)
        between = cv2.dilate(every, np.ones((9, 9), np.uint8)) - cv2.dilate(every, np.ones((3, 3), np.uint8))
        lighter.append(float(picture[every == 1].mean()) - float(picture[between == 1].mean()))
    assert min(lighter) > 0
