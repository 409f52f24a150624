from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data.cards import load_card
from trainers.data.index import image_files, read_index
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.layouts.siim import encode_runs
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.render import render
from trainers.data.readers.siim import SIDE, decode_runs
from trainers.data.regions import masks_of
from trainers.errors import DataError

CARD = load_card("siim")
ONE, TWO, THREE = (f"1.2.276.0.7230010.3.1.4.8323329.{number}.1517875201.85081{number}" for number in (1, 2, 3))


def write(root: Path, *lines: str, header: str = "ImageId, EncodedPixels", name: str = "train-rle.csv") -> Path:
    (root / name).write_text("\n".join((header, *lines, "")), encoding="utf-8")
    return root


def naive(code: str) -> np.ndarray:
    """Decode as the challenge's page says, pixel by pixel: gaps count from the end of the last run, pixels go down the columns."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    numbers = [int(number) for number in code.split()]
    at = 0
    for gap, length in zip(numbers[0::2], numbers[1::2], strict=True):
        at += gap
        for pixel in range(at, at + length):
            mask[pixel % SIDE, pixel // SIDE] = 1
        at += length
    return mask


def test_a_table_with_a_blank_in_its_header(tmp_path: Path) -> None:
    rows = read_index(CARD, write(tmp_path, f"{ONE}, -1", f"{TWO},10 3 1021 2", f"{TWO},100 1", f"{THREE},-1"))
    assert rows.images.tolist() == [ONE, TWO, THREE]
    assert rows.labels[:, 0].tolist() == [0, 1, 0]


def test_the_table_of_stage_2(tmp_path: Path) -> None:
    write(tmp_path, f"{ONE},-1", header="ImageId,EncodedPixels", name="stage_2_train.csv")
    assert len(read_index(load_card("siim_stage_2"), tmp_path)) == 1


def test_runs_are_relative_and_go_down_the_columns() -> None:
    mask = decode_runs("10 3 1021 2")
    assert np.argwhere(mask).tolist() == [[10, 0], [10, 1], [11, 0], [11, 1], [12, 0]]
    np.testing.assert_array_equal(mask, naive("10 3 1021 2"))


@settings(max_examples=25)
@given(pairs=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 900)), min_size=1, max_size=12))
def test_runs_are_those_of_a_naive_reading(pairs: list[tuple[int, int]]) -> None:
    code = " ".join(f"{gap} {length}" for gap, length in pairs)
    np.testing.assert_array_equal(decode_runs(code), naive(code))


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_what_is_encoded_is_decoded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    small = (rng.random((8, 8)) < 0.4).astype(np.uint8)
    mask = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(decode_runs(encode_runs(mask)), mask)


def test_several_rows_are_one_mask(tmp_path: Path) -> None:
    place = locate(CARD, lambda place: write(tmp_path, f"{ONE},0 2", f"{ONE},1 2", f"{TWO},-1"))
    mask = masks_of(place, ONE)["pneumothorax"]
    assert (mask.shape, mask.dtype) == ((SIDE, SIDE), np.uint8)
    assert np.argwhere(mask).tolist() == [[0, 0], [1, 0], [2, 0]]
    assert not masks_of(place, TWO)["pneumothorax"].any()
    assert masks_of(place, ONE, (64, 64))["pneumothorax"].shape == (64, 64)
    with pytest.raises(DataError, match="has no mask of 9"):
        masks_of(place, "9")


@pytest.mark.parametrize("code", ["1 2 3", "1 -2", "a b", f"{SIDE * SIDE} 1", "1 2.5", "9999999999999999999999 1"])
def test_a_code_that_is_none_is_named(tmp_path: Path, code: str) -> None:
    place = locate(CARD, lambda place: write(tmp_path, f"{TWO},-1", f"{ONE},{code}"))
    with pytest.raises(DataError, match=r"train-rle\.csv:3: 'EncodedPixels' is no run-length code of 1024 x 1024 pixels"):
        masks_of(place, ONE)


def test_an_image_with_and_without(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"csv:3: {ONE} has no pneumothorax here, and has one at .*csv:2"):
        read_index(CARD, write(tmp_path, f"{ONE},1 1", f"{ONE},-1"))


def test_a_table_that_changed_is_read_again(tmp_path: Path) -> None:
    place = locate(CARD, lambda place: tmp_path)
    write(tmp_path, f"{ONE},0 2")
    assert masks_of(place, ONE)["pneumothorax"].sum() == 2
    write(tmp_path, f"{ONE},0 333")
    assert masks_of(place, ONE)["pneumothorax"].sum() == 333


@pytest.mark.parametrize("folder", ["dicom-images-train/1.2.2/1.2.3", "dicom-images-train", "stage_2_images", "."])
def test_an_image_is_found_nested_or_flat(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / f"{ONE}.dcm").touch()
    assert image_files(CARD, write(tmp_path, f"{ONE},-1"), [ONE]) == [tmp_path / folder / f"{ONE}.dcm"]


def test_made_masks_are_the_rendered_ones(tmp_path: Path) -> None:
    parameters = PhantomParameters(patients_train=16, px=64)
    made = write_made(tmp_path / "made", parameters, "siim")
    place = locate(CARD, lambda place: made.root)
    rows = place.index()
    drawn = [masks_of(place, image, (64, 64))["pneumothorax"] for image in rows.images.tolist()]
    assert [bool(mask.any()) for mask in drawn] == (rows.labels[:, 0] == 1).tolist()
    pictures = [render(study, "frontal", px=64, masks=True).masks.get("pneumothorax") for study in studies(parameters)]
    wanted = sorted(int(mask.sum()) for mask in pictures if mask is not None and mask.any())
    assert sorted(int(mask.sum()) for mask in drawn if mask.any()) == wanted
