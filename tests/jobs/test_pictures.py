"""Pictures of a job on disk: whole or absent, in order, and named by its result."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from jobs import paths
from jobs.checkpoints import CheckpointStore
from jobs.fencing import is_superseded
from jobs.host import FileHost, SilentHost, Stopped
from jobs.paths import JobPaths
from jobs.pictures import keep_pictures, pictures_in, told


def test_pictures_are_listed_as_they_were_made(tmp_path: Path) -> None:
    for epoch in (10, 2, 12345):
        keep_pictures(tmp_path, {"b": b"b%d" % epoch, "a": b"a%d" % epoch}, epoch)
    keep_pictures(tmp_path, {"overlay": b"x"})
    (tmp_path / ".a-epoch-0003.png.77.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"")
    assert [(one.epoch, one.name) for one in pictures_in(tmp_path)] == [
        (0, "overlay"), (2, "a"), (2, "b"), (10, "a"), (10, "b"), (12345, "a"), (12345, "b"),
    ]  # fmt: skip
    assert pictures_in(tmp_path / "none") == []


def test_a_write_that_is_cut_short_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_pictures(tmp_path, {"a": b"old"}, 1)

    def killed(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(paths.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        keep_pictures(tmp_path, {"a": b"new"}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a-epoch-0001.png"]
    assert (tmp_path / "a-epoch-0001.png").read_bytes() == b"old"


def test_a_result_names_each_with_its_digest_and_what_it_shows(tmp_path: Path) -> None:
    keep_pictures(tmp_path, {"reconstruction": b"abc"}, 3)
    keep_pictures(tmp_path, {"overlay": b"d"})
    assert told(tmp_path, {"reconstruction": "input, masked, reconstruction"}) == [
        {"name": "overlay", "epoch": None, "file": "overlay.png", "sha256": hashlib.sha256(b"d").hexdigest(), "bytes": 1, "caption": ""},
        {
            "name": "reconstruction",
            "epoch": 3,
            "file": "reconstruction-epoch-0003.png",
            "sha256": hashlib.sha256(b"abc").hexdigest(),
            "bytes": 3,
            "caption": "input, masked, reconstruction",
        },
    ]


def test_an_attempt_writes_beside_its_job_until_a_later_one_takes_over(tmp_path: Path) -> None:
    job = JobPaths(tmp_path)
    attempt = job.attempt(1)
    attempt.folder.mkdir(parents=True)
    host = FileHost(attempt, CheckpointStore(job.checkpoints), lambda: False)
    host.keep_pictures(1, {"a": b"1"})
    SilentHost(lambda: False).keep_pictures(2, {"a": b"2"})
    assert os.listdir(job.pictures) == ["a-epoch-0001.png"]
    job.attempt(2).folder.mkdir()
    job.attempt(2).claim.write_text("{}")
    assert is_superseded(attempt)
    with pytest.raises(Stopped):
        host.keep_pictures(2, {"a": b"2"})
    assert os.listdir(job.pictures) == ["a-epoch-0001.png"]
    host.close()
