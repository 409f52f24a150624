"""Preparing decoded images: shard by shard, by several at once, going on after a kill."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainers.data import images, shards
from trainers.data.images import FileStore, Gallery, JoinedStore, PreparedStore, open_store, prepare, room_for
from trainers.errors import DataError, DiskFull

COUNT, PX = 37, 16
#: A run that prepares, and is slow enough to be killed in the middle: every image takes a few milliseconds.
PREPARES = """
import sys, time
from pathlib import Path
from trainers.data import images, shards
from trainers.data.images import Gallery, prepare
images.SHARD = 5
read = shards.read_gray
def slow(file, bits):
    print(file.name, flush=True)
    time.sleep(0.02)
    return read(file, bits)
shards.read_gray = slow
base, cache = Path(sys.argv[1]), Path(sys.argv[2])
names = sorted(path.name for path in base.iterdir())
print(prepare(Gallery(card="toy", names=names, files=[base / name for name in names]), 16, cache).images, flush=True)
"""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SHARD", 5)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    base = tmp_path / "data"
    base.mkdir()
    names = [f"{number:03d}.png" for number in range(COUNT)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (20 + number % 7, 40 - number % 5), dtype=np.uint8)
        cv2.imwrite(str(base / name), pixels)
    return Gallery(card="toy", names=names, files=[base / name for name in names])


def same(gallery: Gallery, cache: Path) -> None:
    prepared, direct = PreparedStore(gallery, PX, cache), FileStore(gallery, PX)
    for position in range(COUNT):
        np.testing.assert_array_equal(prepared.image(position), direct.image(position))
        assert prepared.file_shape(position) == direct.file_shape(position)


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_prepared_is_what_is_read_from_files(gallery: Gallery, tmp_path: Path, workers: int) -> None:
    told: list[int] = []
    found = prepare(gallery, PX, tmp_path / "cache", workers=workers, done=told.append)
    assert (found.images, sum(told), found.faults) == (COUNT, COUNT, ())
    assert sorted(path.name for path in found.folder.iterdir()) == [f"{number:06d}" for number in range(8)]
    assert PreparedStore(gallery, PX, tmp_path / "cache").prepared == COUNT
    same(gallery, tmp_path / "cache")


def test_any_number_of_workers_writes_the_same_bytes(gallery: Gallery, tmp_path: Path) -> None:
    one, three = (prepare(gallery, PX, tmp_path / str(workers), workers=workers).folder for workers in (1, 3))
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {path.name: path.read_bytes() for path in three.iterdir()}


def test_a_card_that_is_prepared_in_part_is_read_from_both(gallery: Gallery, tmp_path: Path) -> None:
    folder = prepare(gallery, PX, tmp_path / "cache").folder
    (folder / "000002").unlink()
    store = open_store(gallery, PX, tmp_path / "cache", prepared_up_to=0)
    assert isinstance(store, PreparedStore) and store.prepared == COUNT - 5
    same(gallery, tmp_path / "cache")
    shutil.rmtree(folder)
    assert isinstance(open_store(gallery, PX, tmp_path / "cache", prepared_up_to=0), FileStore)


def test_images_are_found_again_whatever_the_labels_and_the_place(gallery: Gallery, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    moved = Gallery(card="another card", names=gallery.names, files=[tmp_path / "copy" / name for name in gallery.names])
    assert moved.key(PX) == gallery.key(PX)


@pytest.mark.parametrize("after", [1, 12, 23])
def test_a_killed_run_goes_on_with_what_is_done(gallery: Gallery, tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", PREPARES, str(tmp_path / "data"), str(tmp_path / "cache")]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for _ in range(after):
        first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    folder = tmp_path / "cache" / "images" / gallery.key(PX)
    whole = [path for path in folder.iterdir() if path.name.isdigit()]
    second = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert second[-1] == str(COUNT)
    # What was whole is not decoded again, and nothing is decoded twice.
    assert len(second) - 1 == COUNT - sum(len(task.images) for task in gallery.tasks(PX, tmp_path / "cache") if task.file in whole)
    assert (after - 1) // 5 <= len(whole) <= (after + 4) // 5
    same(gallery, tmp_path / "cache")
    prepare(gallery, PX, tmp_path / "cache")
    assert len([path for path in folder.iterdir() if path.name.isdigit()]) == 8


def test_commands_at_once_share_the_work(gallery: Gallery, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PREPARES, str(tmp_path / "data"), str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [one.communicate(timeout=120)[0].split() for one in running]
    assert [words[-1] for words in said] == [str(COUNT)] * 3
    decoded = [name for words in said for name in words[:-1]]
    assert sorted(decoded) == sorted(gallery.names)
    same(gallery, tmp_path / "cache")


def test_a_shard_whose_writer_died_is_taken_over(gallery: Gallery, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    task = gallery.tasks(PX, tmp_path / "cache")[0]
    task.file.parent.mkdir(parents=True)
    started = context.Event()

    def hold() -> None:
        with shards.claimed(task.file.with_name(f".{task.file.name}.lock"), wait=False):
            started.set()
            time.sleep(600)

    holder = context.Process(target=hold)
    holder.start()
    started.wait()
    assert shards.write_shard(task).mine is False
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert shards.write_shard(task, wait=True).images == 5


def test_what_cannot_be_decoded_is_told_and_stops_only_who_asks_for_it(gallery: Gallery, tmp_path: Path) -> None:
    gallery.files[7].write_bytes(b"")
    whole = gallery.files[30].read_bytes()
    gallery.files[30].write_bytes(b"\0" * len(whole))
    found = prepare(gallery, PX, tmp_path / "cache", workers=2)
    assert found.images == COUNT and len(found.faults) == 2
    assert "007.png is empty (0 bytes)" in found.faults[0] and "030.png" in found.faults[1]
    # The second run decodes nothing, and tells it again.
    assert prepare(gallery, PX, tmp_path / "cache").faults == found.faults
    gallery.files[30].write_bytes(whole)
    before = {path: path.stat().st_mtime_ns for path in found.folder.iterdir()}
    assert prepare(gallery, PX, tmp_path / "cache", again=True).faults == found.faults[:1]
    # What had no fault is left as it is.
    assert sum(path.stat().st_mtime_ns != before[path] for path in found.folder.iterdir()) == 2
    store = PreparedStore(gallery, PX, tmp_path / "cache")
    assert store.image(8).shape[0] == PX
    with pytest.raises(DataError, match=r"007\.png is empty"):
        store.image(7)


def test_room_is_asked_for_before_anything_is_decoded(gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    assert room_for(gallery, PX, cache) == int(COUNT * PX * PX * 1.25)
    usage = shutil.disk_usage(cache)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match=r"37 images of 'toy' at 16 px will take about .* GB decoded, and .*cache has 0\.0 GB left"):
        room_for(gallery, PX, cache)
    assert prepare(gallery, PX, cache).images == COUNT
    assert room_for(gallery, PX, cache) == 0


def test_a_union_takes_what_its_members_have_prepared(gallery: Gallery, tmp_path: Path) -> None:
    part = prepare(gallery, PX, tmp_path / "cache")
    stores = [open_store(gallery, PX, tmp_path / "cache", prepared_up_to=0) for _ in range(2)]
    joined = JoinedStore(PX, stores, [(1, 3), (0, 36)])
    np.testing.assert_array_equal(joined.image(0), stores[0].image(3))
    assert joined.file_shape(1) == stores[1].file_shape(36) and part.images == COUNT
