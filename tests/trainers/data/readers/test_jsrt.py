"""JSRT with SCR's masks, as released and converted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.readers.made import made, placed
from trainers.data.cards import load_card
from trainers.data.decode import read_gray
from trainers.data.regions import boxes_of, masks_of
from trainers.errors import DataError

STRUCTURES = ("left lung", "right lung", "heart", "left clavicle", "right clavicle")


def release(root: Path, ids: tuple[str, ...] = ("JPCLN001", "JPCLN002", "JPCNN001")) -> Path:
    """Lay down images as PNG and masks as SCR has them: palette GIFs, each structure a band of rows."""
    for name in ids:
        (root / "All247images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "All247images" / f"{name}.IMG.png"), np.full((16, 16), 9, np.uint8))
        fold = "fold1" if int(name[-3:]) % 2 else "fold2"
        for band, structure in enumerate(STRUCTURES):
            mask = np.zeros((16, 16), np.uint8)
            mask[3 * band : 3 * band + 4] = 255
            (root / "scr" / fold / "masks" / structure).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / "scr" / fold / "masks" / structure / f"{name}.gif")
    return root


def bands(*numbers: int) -> np.ndarray:
    mask = np.zeros((16, 16), np.uint8)
    for number in numbers:
        mask[3 * number : 3 * number + 4] = 1
    return mask


def test_odd_numbers_train_and_even_ones_test(tmp_path: Path) -> None:
    names = tuple(f"JPC{kind}N{number:03d}" for kind, count in (("L", 154), ("N", 93)) for number in range(1, count + 1))
    for name in names:
        (tmp_path / f"{name}.IMG").write_bytes(b"")
    place = placed("jsrt_lung", tmp_path, splits=load_card("jsrt_lung").splits.__class__(given={"fold1": "train", "fold2": "test"}))
    rows = place.index()
    split = place.split_of(rows)
    assert (len(rows), (split == "train").sum(), (split == "test").sum()) == (247, 124, 123)
    assert placed("jsrt", tmp_path).index().labels[:, 0].sum() == 154


def test_masks_of_scr_are_joined_as_the_card_says(tmp_path: Path) -> None:
    release(tmp_path)
    for card, slug, numbers in (("jsrt_lung", "lungs", (0, 1)), ("jsrt_heart", "heart", (2,)), ("jsrt_clavicle", "clavicles", (3, 4))):
        found = masks_of(placed(card, tmp_path), "JPCLN001")
        assert list(found) == [slug]
        np.testing.assert_array_equal(found[slug], bands(*numbers))
    assert masks_of(placed("jsrt", tmp_path), "JPCLN001") == {}


def test_converted_masks_are_read_alike(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "JPCLN001.IMG.png"), np.zeros((16, 16), np.uint8))
    for number, folder in enumerate(("left_lung_png", "right_lung_png", "heart_png")):
        (tmp_path / "masks" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "masks" / folder / "JPCLN001.png"), bands(number) * 128)
    np.testing.assert_array_equal(masks_of(placed("jsrt_lung", tmp_path), "JPCLN001")["lungs"], bands(0, 1))
    with pytest.raises(DataError, match=r"no mask of the left clavicle of JPCLN001 in .*: is SCR unpacked there"):
        masks_of(placed("jsrt_clavicle", tmp_path), "JPCLN001")


def test_the_raw_image_comes_before_its_copy(tmp_path: Path) -> None:
    release(tmp_path)
    (tmp_path / "JPCLN001.IMG").write_bytes(b"")
    place = placed("jsrt", tmp_path)
    assert [file.name for file in place.files(["JPCLN001", "JPCLN002", "JPCLN003"])] == [
        "JPCLN001.IMG",
        "JPCLN002.IMG.png",
        "JPCLN003.IMG",
    ]


def test_a_name_that_is_none_of_jsrt_s(tmp_path: Path) -> None:
    (tmp_path / "JPCLN001.IMG.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"JPCLN001\.IMG\.bmp: is no image of JSRT"):
        placed("jsrt", tmp_path).index()


def test_clinical_data_gives_sex_age_and_boxes(tmp_path: Path) -> None:
    release(tmp_path)
    nodules = "JPCLN001.IMG\t5\t15\t53\tMale\t1634\t692\tmalignant\tl.upper lobe(S1+2)\tlung cancer"
    nodules += "\rJPCLN002.IMG\t5\t35\t?\tFemale\t1586\t1164\tbenign\tl.lower lobe\tgranuloma\r\r"
    (tmp_path / "CLNDAT_EN.txt").write_text(nodules, encoding="utf-8", newline="")
    (tmp_path / "CNNDAT_EN.TXT").write_text("JPCNN001.IMG   61  Female  non-nodule\r", encoding="utf-8", newline="")
    place = placed("jsrt", tmp_path)
    assert place.index().traits["age"].tolist() == ["53", "", "61"]
    assert place.index().traits["sex"].tolist() == ["M", "F", "F"]
    boxes = boxes_of(place)
    assert boxes.images.tolist() == ["JPCLN001", "JPCLN002"]
    np.testing.assert_allclose(boxes.corners[0], [1634 - 42.857, 692 - 42.857, 1634 + 42.857, 692 + 42.857], atol=1e-3)
    (tmp_path / "CLNDAT_EN.txt").write_text("JPCLN001.IMG\t5\tlarge\t53\n", encoding="utf-8")
    with pytest.raises(DataError, match="the line of JPCLN001 has no size and place of a nodule"):
        boxes_of(place)
    (tmp_path / "CLNDAT_EN.txt").unlink()
    with pytest.raises(DataError, match=r"has no CLNDAT_EN\.txt below"):
        boxes_of(place)
    with pytest.raises(DataError, match="is one of structures: boxes of nodules are of a card with a label for them"):
        boxes_of(placed("jsrt_lung", tmp_path))


def test_made_data_has_a_raw_image_that_is_the_other_way_round(tmp_path: Path) -> None:
    place = made(tmp_path, load_card("jsrt"), patients_valid=0)
    assert place.root is not None
    (raw,) = place.root.rglob("*.IMG")
    stored = np.fromfile(raw, ">u2").reshape(2048, 2048)
    shown = read_gray(raw)
    assert shown.shape == (2048, 2048) and stored.max() <= 4095
    assert np.corrcoef(stored[::64, ::64].ravel(), shown[::64, ::64].ravel())[0, 1] < -0.999


def test_made_nodules_lie_in_their_boxes(tmp_path: Path) -> None:
    place = made(tmp_path, load_card("jsrt"), patients_train=40)
    boxes = boxes_of(place)
    rows = place.index()
    assert set(boxes.images) == set(rows.images[rows.labels[:, 0] == 1])
    lungs = masks_of(placed("jsrt_lung", place.root or tmp_path), str(boxes.images[0]))["lungs"]
    assert lungs.any() and (boxes.corners[:, 2] > boxes.corners[:, 0]).all()
