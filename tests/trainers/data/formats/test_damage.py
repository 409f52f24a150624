"""Hundreds of damaged files: each is refused by name with its cause, or its pixels are what they were, or the damage cannot be seen.

What cannot be seen is listed here, format by format; docs/explanation/image_files.md says the same to users.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.data.formats.damage import FORMATS, MUTATORS, File, whole
from trainers.data.decode import read_gray
from trainers.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TURNS = 8
#: Damage that may leave another image: nothing in these files tells the one from the other. (mutator, format, coding).
UNSEEN = {
    # Bits within valid codes: JPEG and JPEG 2000 have no checksum, and numbers without a coding have not even codes.
    *(("flip_bits", "jpeg", coding) for coding in ("baseline", "progressive")),
    *(("flip_bits", "dicom", coding) for coding in ("uncompressed", "JPEG 2000", "RLE", "JPEG")),
    ("flip_bits", "img", "raw"),
    *(("swap_blocks", "jpeg", coding) for coding in ("baseline", "progressive")),
    *(("swap_blocks", "dicom", coding) for coding in ("uncompressed", "JPEG 2000", "JPEG")),
    ("swap_blocks", "img", "raw"),
    *(("zero_block", "dicom", coding) for coding in ("uncompressed", "JPEG 2000")),
    ("zero_block", "img", "raw"),
}
#: Damage that must leave every pixel as it was: it lies behind the image's end.
HARMLESS = {(name, format) for name in ("append_garbage", "append_zeros") for format in ("png", "jpeg", "dicom")}


def outcome(folder: Path, name: str, file: File, seed: int) -> str:
    """Damage a file, read it, and say what became of it."""
    path = folder / f"image{file.suffix}"
    path.write_bytes(file.content)
    before = read_gray(path)
    content = MUTATORS[name](np.random.default_rng([seed, FORMATS.index(file.format), list(MUTATORS).index(name)]), file)
    assert content != file.content or name == "swap_blocks"
    path.write_bytes(content)
    try:
        after = read_gray(path)
    except DataError as error:
        text = str(error)
        assert text.startswith(f"image {path} ")
        assert "\n" not in text
        assert text.endswith(("copy it again from the release", "or leave it out of the data set"))
        return "refused"
    assert after.dtype == np.uint8
    if after.shape == before.shape and np.array_equal(after, before):
        return "intact"
    if file.format == "jpeg" and name == "wrong_size":
        # A JPEG stores blocks of 8 rows and 8 columns: a header that leaves some of the last ones out is a whole file.
        assert max(before.shape[0] - after.shape[0], before.shape[1] - after.shape[1]) < 8
        np.testing.assert_array_equal(after, before[: after.shape[0], : after.shape[1]])
        return "cropped"
    return "another image"


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_refused_or_intact(tmp_path: Path, format: str) -> None:
    check(tmp_path, format, range(TURNS))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_many_damaged_files_are_refused_or_intact(tmp_path: Path, format: str) -> None:
    check(tmp_path, format, range(TURNS, 100))


def check(folder: Path, format: str, turns: range) -> None:
    counts: Counter[str] = Counter()
    for name in MUTATORS:
        for turn in turns:
            file = whole(format, turn)
            found = outcome(folder, name, file, turn)
            counts[found] += 1
            about = (name, format, file.coding, turn)
            if (name, format) in HARMLESS:
                assert found == "intact", about
            elif found == "another image":
                assert (name, format, file.coding) in UNSEEN, about
            elif found == "intact":
                # A flipped bit may lie in what nobody reads, and blocks that were swapped may be the same.
                assert name in ("flip_bits", "swap_blocks", "zero_block"), about
    assert counts.total() == len(MUTATORS) * len(turns)
    assert counts["refused"] >= 0.7 * counts.total()
    if format == "png":
        assert not counts["another image"]


def test_there_are_five_hundred_files_from_a_dozen_ways_and_four_formats() -> None:
    assert len(MUTATORS) >= 12
    assert len(FORMATS) == 4
    assert len(MUTATORS) * len(FORMATS) * TURNS >= 500


def test_a_lost_sector_of_a_jpeg_is_always_seen(tmp_path: Path) -> None:
    for turn in range(100):
        assert outcome(tmp_path, "zero_block", whole("jpeg", turn), turn) == "refused"


def test_what_declares_gigabytes_takes_none_of_them(tmp_path: Path) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for format in ("png", "jpeg", "dicom"):
        outcome(tmp_path, "huge_size", whole(format, 0), 0)  # whatever is imported the first time
    before = peak()
    for format in ("png", "jpeg", "dicom"):
        for turn in range(4):
            assert outcome(tmp_path, "huge_size", whole(format, turn), turn) == "refused"
    assert peak() - before < 200 * 1024, "a file of some kilobytes took more than 200 MiB"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may read")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(whole("png", 0).content)
    path.chmod(0)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\): check the disk and the permissions"):
        read_gray(path)
