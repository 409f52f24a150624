"""Files that are neither PNG, JPEG nor DICOM, and how many bits the numbers of 16-bit files have."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from trainers.data.decode import read_gray
from trainers.data.formats.faults import MOST_PIXELS
from trainers.errors import DataError

RAMP = np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (32, 1))


def fault(file: Path, bits: int = 16) -> str:
    with pytest.raises(DataError) as error:
        read_gray(file, bits)
    assert str(error.value).startswith(f"image {file} ")
    return str(error.value)


# --- raw --------------------------------------------------------------------------------------------------------------------------------


def jsrt(folder: Path, pixels: np.ndarray, order: str = ">") -> Path:
    file = folder / "JPCLN001.IMG"
    file.write_bytes(pixels.astype(f"{order}u2").tobytes())
    return file


def test_raw_radiographs_are_big_endian_and_turned_around(tmp_path: Path) -> None:
    pixels = np.zeros((2048, 2048), np.uint16)
    pixels[0, :3], pixels[1, 0] = (4095, 2048, 1), 16
    image = read_gray(jsrt(tmp_path, pixels))
    assert image.shape == (2048, 2048)
    assert image[0, :4].tolist() == [0, round((4095 - 2048) * 255 / 4095), 255, 255]
    assert image[1, 0] == round((4095 - 16) * 255 / 4095)


def test_raw_radiographs_that_are_not_what_they_have_to_be(tmp_path: Path) -> None:
    pixels = np.full((2048, 2048), 300, np.uint16)
    assert "holds the number 11265, and an .IMG of JSRT has 12 bits" in fault(jsrt(tmp_path, pixels, "<"))
    file = jsrt(tmp_path, pixels)
    for size in (2048 * 2048 * 2 - 1, 2048 * 2048, 100):
        file.write_bytes(jsrt(tmp_path, pixels).read_bytes()[:size])
        assert f"has {size:,} bytes, and an .IMG of JSRT has 8,388,608" in fault(file)
    file.write_bytes(jsrt(tmp_path, pixels).read_bytes() + b"\0")
    assert "has 8,388,609 bytes" in fault(file)


def test_an_img_that_is_a_png_is_read_as_one(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), RAMP)
    np.testing.assert_array_equal(read_gray((tmp_path / "a.png").rename(tmp_path / "a.IMG")), RAMP)


# --- GIF, TIFF, BMP -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "1"])
def test_gray_values_survive(tmp_path: Path, kind: str, mode: str) -> None:
    mask = np.where(RAMP > 127, 255, 0).astype(np.uint8)
    image = Image.fromarray(mask)
    image = image.convert("RGB").quantize(2) if mode == "P" else image.convert(mode)
    if kind == "PPM" and mode == "P":
        image = image.convert("L")
    image.save(tmp_path / "a", kind)
    np.testing.assert_array_equal(read_gray(tmp_path / "a"), mask)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_whatever_ends_too_early_is_refused(tmp_path: Path, kind: str) -> None:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)).save(content, kind)
    whole = content.getvalue()
    for size in (5, 60, len(whole) // 2, len(whole) - 60):
        (tmp_path / "a").write_bytes(whole[:size])
        assert "copy it again from the release" in fault(tmp_path / "a")


def test_sixteen_bit_tiff_and_what_is_no_picture_of_gray_values(tmp_path: Path) -> None:
    values = np.array([[0, 256, 40_000, 65_535]] * 4, np.uint16)
    for order in ("<", ">"):
        Image.fromarray(values.astype(f"{order}u2")).save(tmp_path / "a.tiff")
        assert read_gray(tmp_path / "a.tiff")[0].tolist() == [0, 1, round(40_000 * 255 / 65_535), 255]
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tiff")
    assert "has float32 pixels: convert it to an 8-bit or 16-bit PNG" in fault(tmp_path / "a.tiff")
    Image.fromarray(RAMP).save(tmp_path / "a.tiff", save_all=True, append_images=[Image.fromarray(RAMP)])
    assert "holds 2 images, and one is expected" in fault(tmp_path / "a.tiff")


# --- sizes -------------------------------------------------------------------------------------------------------------------------------


def test_what_declares_more_than_any_radiograph_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    assert MOST_PIXELS < 20_000 * 20_000
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", RAMP)[1].tobytes().replace(b"\x00\x20\x00\x30", b"\xff\xff\xff\xff", 1))
    assert "declares 65535 x 65535 pixels, more than any radiograph has" in fault(tmp_path / "a.jpg")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
    assert "declares 20000 x 20000 pixels" in fault(tmp_path / "a.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.tiff", compression="group4")
    assert "more pixels than any radiograph has" in fault(tmp_path / "a.tiff") or "declares" in fault(tmp_path / "a.tiff")


# --- bits --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_twelve_bits_in_a_sixteen_bit_file_are_scaled_by_twelve(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(file), np.array([[0, 8, 9, 2048, 4095]], np.uint16))
    assert read_gray(file, 12)[0].tolist() == [0, 0, 1, round(2048 * 255 / 4095), 255]
    assert read_gray(file)[0].tolist() == [0, 0, 0, 8, 16]
    assert "holds the number 4095, and its card says that it has 10 bits (0 to 1023): correct the bits in its card" in fault(file, 10)


def test_bits_are_nothing_to_files_of_eight(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), RAMP)
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png", 10), RAMP)


# --- what the disk says -------------------------------------------------------------------------------------------------------------------


def test_what_the_disk_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "gone")
    assert "cannot be read (Is a directory): check the disk and the permissions" in fault(tmp_path / "folder.png")
    assert "cannot be read (Not a directory)" in fault(tmp_path / "file" / "a.png")
    assert "cannot be read (Too many levels of symbolic links)" in fault(tmp_path / "loop.png")
    assert "cannot be read (File name too long)" in fault(tmp_path / ("a" * 300))
    assert "is missing" in fault(tmp_path / "nowhere.png")
