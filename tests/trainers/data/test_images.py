from __future__ import annotations

import errno
import multiprocessing
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from trainers.data.decode import read_gray, shrink
from trainers.data.images import FileStore, Gallery, PreparedStore, open_store
from trainers.errors import DataError, DiskFull

RAMP = np.tile(np.linspace(0, 255, 48, dtype=np.uint8), (32, 1))


def png(path: Path, pixels: np.ndarray, mode: str) -> Path:
    Image.fromarray(pixels).convert(mode).save(path)
    return path


# --- decoding ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_gray_png_of_every_mode_has_its_gray_values(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RAMP)
    image = image.convert("RGB").quantize(256) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    found = read_gray(tmp_path / "a.png")
    assert found.dtype == np.uint8
    assert found.shape == RAMP.shape
    # A palette may merge neighbouring levels; nothing else may change a value.
    assert np.abs(found.astype(int) - RAMP).max() <= (3 if mode == "P" else 0)


def test_colours_become_luma(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = 200, 40  # red, blue
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert abs(int(read_gray(tmp_path / "a.png")[0, 0]) - (0.299 * 200 + 0.114 * 40)) <= 1


def test_an_alpha_channel_is_dropped(tmp_path: Path) -> None:
    pixels = np.dstack([RAMP, RAMP, RAMP, np.zeros_like(RAMP)])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_gray(tmp_path / "a.png"), RAMP)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, channels: int) -> None:
    values = np.array([[0, 256, 40_000, 65_535]] * 4, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), values if channels == 1 else np.dstack([values] * 3))
    assert read_gray(tmp_path / "a.png")[0].tolist() == [0, 1, round(40_000 * 255 / 65_535), 255]


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 127).save(tmp_path / "a.png")
    assert np.unique(read_gray(tmp_path / "a.png")).tolist() == [0, 255]


def test_a_turned_file_is_read_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # orientation: turn by 90 degrees
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert read_gray(tmp_path / "a.jpg").shape == RAMP.shape


def jpeg_bytes(thumbnail: bool = False) -> bytes:
    content = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))[1].tobytes()
    if not thumbnail:
        return content
    inner = cv2.imencode(".jpg", RAMP)[1].tobytes()
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner + content[2:]


def png_bytes() -> bytes:
    return cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))[1].tobytes()


BROKEN = {
    "empty.jpg": (b"", "is empty (0 bytes)"),
    "truncated.jpg": (jpeg_bytes()[: len(jpeg_bytes()) // 2], "is a truncated JPEG"),
    "one_byte_short.jpg": (jpeg_bytes()[:-1], "is a truncated JPEG"),
    "thumbnail.jpg": (jpeg_bytes(thumbnail=True)[:-200], "is a truncated JPEG"),
    "truncated.png": (png_bytes()[:-400], "is a truncated PNG"),
    "without_end.png": (png_bytes()[:-12], "is a truncated PNG"),
    "flipped_bit.png": (png_bytes()[:200] + bytes([png_bytes()[200] ^ 1]) + png_bytes()[201:], "is a damaged PNG"),
    "text.jpg": (b"<html>not found</html>", "cannot be decoded"),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_gray(tmp_path / name)
    assert f"image {tmp_path / name} {message}" in str(error.value)
    assert "copy it again" in str(error.value)


def test_whole_files_pass(tmp_path: Path) -> None:
    for name, content in (
        ("a.jpg", jpeg_bytes()),
        ("b.jpg", jpeg_bytes(thumbnail=True)),
        ("c.png", png_bytes()),
        ("d.jpg", jpeg_bytes() + b"\0\0"),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_gray(tmp_path / name).shape == (64, 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image .*/none\.jpg is missing"):
        read_gray(tmp_path / "none.jpg")


def test_float_pixels_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), RAMP.astype(np.float32))
    with pytest.raises(DataError, match="float32 pixels"):
        read_gray(tmp_path / "a.tiff")


def test_a_chunk_that_claims_more_than_there_is(tmp_path: Path) -> None:
    body = b"IDAT" + b"x" * 8
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 10_000) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="truncated PNG"):
        read_gray(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("shape", "px", "expected"), [((320, 390), 64, (64, 78)), ((390, 320), 64, (78, 64)), ((20, 30), 40, (40, 60)), ((9, 9), 9, (9, 9))]
)
def test_the_short_side_becomes_px(shape: tuple[int, int], px: int, expected: tuple[int, int]) -> None:
    assert shrink(np.zeros(shape, np.uint8), px).shape == expected


def test_shrinking_averages(tmp_path: Path) -> None:
    checkered = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    assert np.unique(shrink(checkered.astype(np.uint8), 32)).tolist() in ([127], [128])


# --- stores -----------------------------------------------------------------------------------------------------------------------------


def gallery(base: Path, count: int = 7, **changes: str) -> Gallery:
    base.mkdir(parents=True, exist_ok=True)
    paths = [f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(base / path), np.random.default_rng(number).integers(0, 256, (20 + number, 40), dtype=np.uint8))
    return Gallery(card="toy", names=paths, files=[base / path for path in paths], made=changes or None)


def test_both_stores_give_the_same_images(tmp_path: Path) -> None:
    files = gallery(tmp_path / "data")
    prepared, direct = open_store(files, 16, tmp_path / "cache"), open_store(files, 16, tmp_path / "none", prepared_up_to=6)
    assert isinstance(prepared, PreparedStore)
    assert isinstance(direct, FileStore)
    for position in (3, 0, 6, 3):
        np.testing.assert_array_equal(prepared.image(position), direct.image(position))
        assert min(prepared.image(position).shape) == 16
        assert prepared.file_shape(position) == direct.file_shape(position) == (20 + position, 40)


def test_images_are_decoded_once(tmp_path: Path) -> None:
    files = gallery(tmp_path / "data")
    first = open_store(files, 16, tmp_path / "cache").image(2).copy()
    for path in (tmp_path / "data").iterdir():
        path.write_bytes(b"x" * path.stat().st_size)  # the same sizes, and no image
    np.testing.assert_array_equal(open_store(files, 16, tmp_path / "cache").image(2), first)


def test_a_prepared_folder_serves_another_place_and_is_not_taken_for_another_content(tmp_path: Path) -> None:
    here, there = gallery(tmp_path / "here"), gallery(tmp_path / "there")
    assert here.key(16) == there.key(16)
    keys = {here.key(16), here.key(32), gallery(tmp_path / "here", version="2").key(16), gallery(tmp_path / "here", 6).key(16)}
    (tmp_path / "there" / "0.png").write_bytes(b"longer" * 1000)
    assert len(keys | {there.key(16)}) == 5


def test_a_broken_image_stops_only_who_asks_for_it(tmp_path: Path) -> None:
    files = gallery(tmp_path / "data")
    broken = tmp_path / "data" / "4.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-20])
    store = open_store(files, 16, tmp_path / "cache")
    assert store.image(3).shape == (16, 28)
    assert store.image(5).shape == (16, 26)
    for ask in (store.image, store.file_shape):
        with pytest.raises(DataError, match=r"4\.png is a truncated PNG"):
            ask(4)
    broken.write_bytes(whole)
    assert store.image(4).shape == (16, 27)
    assert store.file_shape(4) == (24, 40)


def test_a_torn_folder_is_prepared_anew(tmp_path: Path) -> None:
    files = gallery(tmp_path / "data")
    expected = open_store(files, 16, tmp_path / "cache").image(6).copy()
    (shard,) = (tmp_path / "cache" / "images" / files.key(16)).iterdir()
    whole = shard.read_bytes()
    for content in (
        b"",
        b"short",
        whole[:-1],
        whole[:100] + whole[101:],
        whole[:-16] + b"\xff" * 8 + whole[-8:],
        whole[:-40] + whole[-16:],
    ):
        shard.write_bytes(content)
        np.testing.assert_array_equal(open_store(files, 16, tmp_path / "cache").image(6), expected)
        assert shard.read_bytes() == whole


def _prepare_at_once(base: Path, cache: Path, barrier: object, answers: object) -> None:
    names = [f"{number}.png" for number in range(7)]
    files = Gallery(card="toy", names=names, files=[base / name for name in names])
    barrier.wait()  # type: ignore[attr-defined]
    store = open_store(files, 16, cache)
    answers.put([int(store.image(position).sum()) for position in range(7)])  # type: ignore[attr-defined]


def test_processes_that_prepare_at_once_all_see_whole_images(tmp_path: Path) -> None:
    files = gallery(tmp_path / "data")
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_prepare_at_once, args=(tmp_path / "data", tmp_path / "cache", barrier, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    expected = [int(open_store(files, 16, tmp_path / "elsewhere").image(position).sum()) for position in range(7)]
    assert found == [expected] * 4
    assert [path.name for path in (tmp_path / "cache" / "images").iterdir()] == [files.key(16)]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="no space left for decoded images under"):
        open_store(gallery(tmp_path / "data"), 16, tmp_path / "cache")
    assert list((tmp_path / "cache" / "images").iterdir()) == []


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    store = FileStore(gallery(tmp_path / "data", 30), 16, remembered_bytes=3000)
    for position in range(30):
        store.image(position)
    assert sum(image.nbytes for image, _ in store._known.values()) <= 3000
    assert len(store._known) >= 4


def test_numbers_of_fewer_bits_are_scaled_by_them_from_files_and_from_shards(tmp_path: Path) -> None:
    pixels = np.full((20, 30), 4095, np.uint16)
    names = ["twelve.png", "ten.png", "sixteen.png"]
    files = [tmp_path / name for name in names]
    for file, most in zip(files, (4095, 1023, 65535), strict=True):
        cv2.imwrite(str(file), np.full_like(pixels, most))
    said = Gallery(card="toy", names=names, files=files, bits=[12, 10, 16])
    plain = Gallery(card="toy", names=names, files=files)
    assert said.key(20) != plain.key(20)
    for limit in (0, 10):
        store = open_store(said, 20, tmp_path / "cache", prepared_up_to=limit)
        assert [int(store.image(position).min()) for position in range(3)] == [255, 255, 255]
        store = open_store(plain, 20, tmp_path / "cache", prepared_up_to=limit)
        assert [int(store.image(position).min()) for position in range(3)] == [16, 4, 255]
