"""Checkpoints survive kills, full disks and rotten files; what is kept is the last and the best."""

from __future__ import annotations

import hashlib
import json
import math
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from jobs.checkpoints import CheckpointStore, is_disk_full, retained
from trainers.errors import DiskFull, WeightsError

MEGABYTE = 2**20
RETENTION = {"metric": "val/auroc", "mode": "max", "best": 1}


def text(content: str) -> Callable[[Path], None]:
    """Return a writer of a text."""

    def write(path: Path) -> None:
        path.write_text(content, encoding="utf-8")

    return write


def keep(store: CheckpointStore, epoch: int, value: float | None, **retention: object) -> None:
    metrics = {} if value is None else {"val/auroc": value}
    info = {"step": 10 * epoch, "epoch": epoch, "retention": {**RETENTION, **retention}}
    store.keep(f"epoch-{epoch:04d}", metrics, {"safetensors": text(f"w{epoch}"), "val.parquet": text(f"p{epoch}")}, info)


def names(store: CheckpointStore) -> list[str]:
    return [entry["name"] for entry in store.kept()]


# --- resume files -------------------------------------------------------------------------------------------------------------------------


def test_the_last_two_states_stay_and_the_newest_is_given(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    assert store.latest_state() is None
    for step in range(1, 6):
        store.save_state(step, 0, text(f"state {step}"))
    latest = store.latest_state()
    assert latest is not None
    assert latest.read_text() == "state 5"
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".json", ".json", ".pt", ".pt"]
    manifest = json.loads(latest.with_suffix(".json").read_text())
    assert manifest["files"]["pt"]["sha256"] == hashlib.sha256(b"state 5").hexdigest()
    assert (manifest["step"], manifest["epoch"]) == (5, 0)


def rot_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rot_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def rot_gone(path: Path) -> None:
    path.unlink()


def rot_manifest(path: Path) -> None:
    rot_cut(path.with_suffix(".json"))
    rot_cut(path.with_suffix(".json"))


ROTS = [rot_cut, rot_flip, rot_gone, rot_manifest]


@pytest.mark.parametrize("rot", ROTS)
def test_a_rotten_last_state_falls_back_to_the_one_before(tmp_path: Path, rot: Callable[[Path], None]) -> None:
    said: list[str] = []
    store = CheckpointStore(tmp_path, warn=said.append)
    store.save_state(1, 0, text("one"))
    store.save_state(2, 0, text("two"))
    latest = store.latest_state()
    assert latest is not None
    rot(latest)
    found = store.latest_state()
    assert found is not None
    assert found.read_text() == "one"
    assert len(said) == 1
    assert latest.name in said[0]


@pytest.mark.parametrize("rot", ROTS)
def test_two_rotten_states_are_none_and_it_is_said(tmp_path: Path, rot: Callable[[Path], None]) -> None:
    said: list[str] = []
    store = CheckpointStore(tmp_path, warn=said.append)
    for step in (1, 2):
        store.save_state(step, 0, text("state"))
    for path in sorted(tmp_path.glob("*.pt")):
        rot(path)
    assert store.latest_state() is None
    assert len(said) == 3
    assert "starts again" in said[-1]


def test_a_new_state_is_the_newest_even_after_rotten_ones(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, warn=lambda _: None)
    for step in (1, 2):
        store.save_state(step, 0, text("old"))
    for path in tmp_path.glob("*.pt"):
        rot_flip(path)
    store.save_state(1, 0, text("new"))
    latest = store.latest_state()
    assert latest is not None
    assert latest.read_text() == "new"


def test_states_are_dropped_and_kept_checkpoints_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save_state(1, 0, text("state"))
    keep(store, 1, 0.5)
    store.drop_states()
    assert store.latest_state() is None
    assert names(store) == ["epoch-0001"]
    assert not list(tmp_path.glob("state-*"))


# A writer that is killed at its n-th system call that matters; what it had kept before must be there, or the new one whole.
KILLED = """
import os, signal, sys
from pathlib import Path
from jobs.checkpoints import CheckpointStore
from jobs import paths
store = CheckpointStore(Path(sys.argv[1]))
store.save_state(1, 0, lambda path: path.write_text("one" * 1000) and None)
info = {"step": 1, "epoch": 1, "retention": {"metric": "val/x", "best": 1}}
store.keep("epoch-0001", {"val/x": 1.0}, {"safetensors": lambda path: path.write_text("w1") and None}, info)
left = int(sys.argv[2])
def counted(real):
    def call(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*args, **kwargs)
    return call
for name in ("fsync", "replace"):
    setattr(os, name, counted(getattr(os, name)))
Path.unlink = counted(Path.unlink)
def torn(path):
    with path.open("w") as file:
        file.write("two" * 500); file.flush(); counted(lambda: None)(); file.write("two" * 500)
store.save_state(2, 0, torn)
store.save_state(3, 0, lambda path: path.write_text("three" * 1000) and None)
store.keep("epoch-0002", {"val/x": 2.0}, {"safetensors": lambda path: path.write_text("w2") and None}, dict(info, epoch=2, step=2))
"""


def test_a_kill_at_any_system_call_leaves_checkpoints_whole(tmp_path: Path) -> None:
    outcomes: list[str] = []
    for calls in range(100):
        folder = tmp_path / str(calls)
        ended = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(calls)], cwd=Path(__file__).parents[2], check=False)
        store = CheckpointStore(folder, warn=lambda said: pytest.fail(said))
        latest = store.latest_state()
        assert latest is not None
        content = latest.read_text()
        assert content in {word * 1000 for word in ("one", "two", "three")}
        assert [store.file(name, "safetensors").read_text() for name in names(store)] in (["w1"], ["w1", "w2"], ["w2"])
        store.save_state(9, 0, text("after"))
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        assert all(path.with_suffix(".json").exists() for path in folder.glob("state-*.pt"))
        outcomes.append(content[:3])
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    # Every generation was seen, so the kills hit before, between and after the writes.
    assert list(dict.fromkeys(outcomes)) == ["one", "two", "thr"]
    assert len(outcomes) > 15


# --- a full disk --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a real file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def torch_file(path: Path) -> None:
    torch.save({"x": torch.ones(3 * MEGABYTE // 4)}, path)


def safetensors_file(path: Path) -> None:
    save_file({"x": torch.ones(3 * MEGABYTE // 4)}, path)


def plain_file(path: Path) -> None:
    path.write_bytes(b"x" * 3 * MEGABYTE)


def parquet_file(path: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": np.random.default_rng(0).random(3 * MEGABYTE // 8)}), path, compression="none")


WRITERS = [torch_file, safetensors_file, plain_file, parquet_file]


@pytest.mark.needs("root")
@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_a_sentence_and_leaves_the_previous_state(small_disk: Path, write: Callable[[Path], None]) -> None:
    store = CheckpointStore(small_disk / "checkpoints")
    store.save_state(1, 0, write)
    before = sorted(path.name for path in store.folder.iterdir())
    with pytest.raises(DiskFull, match=r"no space to write checkpoint 'state-000002'.*free some space, or set `run_root`"):
        store.save_state(2, 0, write)
    assert sorted(path.name for path in store.folder.iterdir()) == before
    latest = store.latest_state()
    assert latest is not None
    assert latest.name == "state-000001.pt"
    with pytest.raises(DiskFull):
        store.keep("epoch-0001", {}, {"safetensors": write}, {"step": 1, "epoch": 1})
    assert store.kept() == []
    store.save_state(3, 0, text("small enough"))
    latest = store.latest_state()
    assert latest is not None
    assert latest.read_text() == "small enough"


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_size_limit_is_a_sentence_too(tmp_path: Path, write: Callable[[Path], None]) -> None:
    store = CheckpointStore(tmp_path)
    store.save_state(1, 0, text("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, hard))
    try:
        with pytest.raises(DiskFull):
            store.save_state(2, 0, write)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    latest = store.latest_state()
    assert latest is not None
    assert latest.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2


def test_another_fault_of_a_writer_is_not_a_full_disk(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)

    def broken(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        store.save_state(1, 0, broken)
    assert list(tmp_path.iterdir()) == []
    assert not is_disk_full(PermissionError(13, "Permission denied"))


# --- kept checkpoints ---------------------------------------------------------------------------------------------------------------------


def test_the_last_and_the_best_are_kept_with_their_manifests(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for epoch, value in enumerate([0.6, 0.9, 0.7, 0.8], start=1):
        keep(store, epoch, value)
    assert names(store) == ["epoch-0002", "epoch-0004"]
    best = store.kept()[0]
    assert (best["epoch"], best["step"], best["metrics"]) == (2, 20, {"val/auroc": 0.9})
    assert best["files"]["safetensors"] == {"file": "epoch-0002.safetensors", "sha256": hashlib.sha256(b"w2").hexdigest(), "bytes": 2}
    assert store.file("epoch-0002", "val.parquet").read_text() == "p2"
    assert len(list(tmp_path.iterdir())) == 6


def test_nan_is_never_best_and_ties_go_to_the_earlier(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for epoch, value in enumerate([math.nan, 0.7, 0.7, math.inf, math.nan, None], start=1):
        keep(store, epoch, value)
    assert names(store) == ["epoch-0002", "epoch-0006"]
    assert json.loads((tmp_path / "epoch-0002.json").read_text())["metrics"] == {"val/auroc": 0.7}


def test_the_smallest_is_best_when_asked_and_several_can_stay(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for epoch, value in enumerate([3.0, 1.0, 2.0, 9.0], start=1):
        keep(store, epoch, value, mode="min", best=2)
    assert names(store) == ["epoch-0002", "epoch-0003", "epoch-0004"]


def test_without_a_metric_the_last_stays_and_a_negative_number_keeps_all(tmp_path: Path) -> None:
    last, every = CheckpointStore(tmp_path / "last"), CheckpointStore(tmp_path / "every")
    for epoch in (1, 2, 3):
        keep(last, epoch, 0.5, metric=None)
        keep(every, epoch, 0.5, metric=None, best=-1)
    assert names(last) == ["epoch-0003"]
    assert names(every) == ["epoch-0001", "epoch-0002", "epoch-0003"]


@given(
    values=st.lists(st.one_of(st.none(), st.integers(0, 5).map(float)), min_size=1, max_size=12),
    best=st.integers(0, 4),
    mode=st.sampled_from(["max", "min"]),
    last=st.sampled_from([{}, {"last": True}, {"last": False}]),
)
def test_keeping_one_by_one_is_keeping_the_best_of_all(values: list[float | None], best: int, mode: str, last: dict[str, bool]) -> None:
    rule = {"metric": "m", "mode": mode, "best": best, **last}
    whole = [{"name": str(epoch), "epoch": epoch, "metrics": {"m": value}} for epoch, value in enumerate(values)]
    kept: list[dict[str, object]] = []
    for entry in whole:
        kept.append(entry)
        stay = retained(kept, rule)
        kept = [one for one in kept if one["name"] in stay]
    assert {entry["name"] for entry in kept} == retained(whole, rule)
    # What a run that was set back does again changes nothing.
    again = sorted([*kept, *whole[len(whole) // 2 :]], key=lambda entry: int(str(entry["epoch"])))
    unique = list({str(entry["name"]): entry for entry in again}.values())
    assert retained(unique, rule) == retained(whole, rule)


@given(values=st.lists(st.one_of(st.none(), st.integers(0, 5).map(float)), min_size=1, max_size=12), best=st.integers(1, 4))
def test_without_the_last_only_the_best_stay_while_there_are_any(values: list[float | None], best: int) -> None:
    whole = [{"name": str(at), "epoch": at // 3, "metrics": {"m": value}} for at, value in enumerate(values)]
    left = {at: value for at, value in enumerate(values) if value is not None}
    expected: set[str] = set()
    while left and len(expected) < best:
        first = min(at for at, value in left.items() if value == max(left.values()))
        expected.add(str(first))
        del left[first]
    found = retained(whole, {"metric": "m", "mode": "max", "best": best, "last": False})
    if len(values) <= 9:
        # Names sort as numbers do up to here: within an epoch ties go to the earlier.
        assert found == (expected or {str(len(values) - 1)})
    assert len(found) == max(1, len(expected))


def test_keeping_a_name_again_replaces_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    keep(store, 1, 0.5)
    store.keep("epoch-0001", {}, {"safetensors": text("again")}, {"step": 1, "epoch": 1, "retention": RETENTION})
    assert store.file("epoch-0001", "safetensors").read_text() == "again"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0001.json", "epoch-0001.safetensors"]


def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    keep(store, 1, 0.5)
    rot_flip(tmp_path / "epoch-0001.safetensors")
    with pytest.raises(WeightsError, match="not what was written: its sha256 differs"):
        store.file("epoch-0001", "safetensors")
    assert store.file("epoch-0001", "val.parquet").read_text() == "p1"
    with pytest.raises(WeightsError, match="kept here: epoch-0001"):
        store.file("epoch-0009", "safetensors")


@pytest.mark.parametrize("name", ["state-000001", "Epoch", "../x", "", ".x", "a.b"])
def test_a_name_that_would_clash_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name for a checkpoint"):
        CheckpointStore(tmp_path).keep(name, {}, {}, {"step": 1, "epoch": 1})
