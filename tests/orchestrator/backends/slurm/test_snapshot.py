"""The copy of the code that queued jobs run: by content, once, with other people's folders, and never half of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.stages import Node
from orchestrator import garbage, intents
from orchestrator.backends.slurm import snapshot
from orchestrator.errors import BackendError
from orchestrator.model import ClusterConfig


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small tree of the three packages."""
    for package in snapshot.PACKAGES:
        folder = tmp_path / "tree" / package
        (folder / "__pycache__").mkdir(parents=True)
        (folder / "a.py").write_text(f"NAME = {package!r}\n")
        (folder / "__pycache__" / "a.pyc").write_bytes(b"old")
        (folder / "a.py~").write_text("an editor's")
        (folder / ".hidden").write_text("nothing")
    return tmp_path / "tree"


def config(folder: Path, **more: object) -> ClusterConfig:
    return ClusterConfig(name="here", run_root=folder / "runs", made_root=folder / "made", **more)  # type: ignore[arg-type]


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def theirs(folder: Path, name: str = "methods", **files: str) -> Path:
    for file, text in files.items():
        path = folder / name / "mine" / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / name


def test_code_is_copied_once_and_nothing_that_is_none(tmp_path: Path, root: Path) -> None:
    cluster, run = config(tmp_path), RunPaths(tmp_path / "runs")
    copy = snapshot.take(run, cluster, root)
    assert listing(copy) == {"orchestrator/a.py", "jobs/a.py", "trainers/a.py", "submitted.json"}
    assert copy == snapshot.code_folder(run, cluster, root)
    before = (copy / "jobs" / "a.py").stat()
    assert snapshot.take(run, cluster, root) == copy
    assert (copy / "jobs" / "a.py").stat() == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_every_byte_and_every_name_makes_another_copy(tmp_path: Path, root: Path) -> None:
    mine = theirs(tmp_path, config="NAME = 'mine'\n")
    cluster, run = config(tmp_path, trainer_paths=(mine,)), RunPaths(tmp_path / "runs")
    names = [snapshot.code_folder(run, cluster, root).name]
    (root / "jobs" / "a.py").write_text("NAME = 'jobS'\n")
    names.append(snapshot.code_folder(run, cluster, root).name)
    (root / "jobs" / "a.py").rename(root / "jobs" / "b.py")
    names.append(snapshot.code_folder(run, cluster, root).name)
    theirs(tmp_path, config="NAME = 'minE'\n")
    names.append(snapshot.code_folder(run, cluster, root).name)
    names.append(snapshot.code_folder(run, config(tmp_path, card_paths=(mine,)), root).name)
    names.append(snapshot.code_folder(run, config(tmp_path), root).name)
    assert len(set(names)) == len(names)


def test_the_name_does_not_depend_on_where_the_run_root_is(tmp_path: Path, root: Path) -> None:
    mine = theirs(tmp_path, config="NAME = 'mine'\n")
    found = {snapshot.take(RunPaths(tmp_path / name), config(tmp_path, trainer_paths=(mine,)), root).name for name in ("one", "two words")}
    assert len(found) == 1


def test_other_peoples_folders_are_in_the_copy_and_it_says_where(tmp_path: Path, root: Path) -> None:
    mine, cards = theirs(tmp_path, config="NAME = 'mine'\n", train="import torch\n"), tmp_path / "cards"
    cards.mkdir()
    (cards / "our_data.yaml").write_text("a card\n")
    copy = snapshot.take(RunPaths(tmp_path / "runs"), config(tmp_path, trainer_paths=(mine,), card_paths=(cards, mine)), root)
    told = json.loads((copy / "submitted.json").read_text())
    assert told == {"trainer_paths": ["theirs/0-methods"], "card_paths": ["theirs/1-cards", "theirs/0-methods"]}
    assert (copy / "theirs/0-methods/mine/train.py").read_text() == "import torch\n"
    assert (copy / "theirs/1-cards/our_data.yaml").read_text() == "a card\n"


def test_a_linked_package_is_copied_and_a_circle_ends(tmp_path: Path, root: Path) -> None:
    real = theirs(tmp_path, "elsewhere", config="NAME = 'mine'\n") / "mine"
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "mine").symlink_to(real)
    (real / "again").symlink_to(real)
    copy = snapshot.take(RunPaths(tmp_path / "runs"), config(tmp_path, trainer_paths=(folder,)), root)
    assert {name for name in listing(copy) if name.startswith("theirs")} == {"theirs/0-methods/mine/config.py"}
    assert not (copy / "theirs/0-methods/mine").is_symlink()


def test_a_large_file_beside_their_code_is_linked(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "LARGEST_FILE", 100)
    mine = theirs(tmp_path, config="NAME = 'mine'\n")
    (mine / "mine" / "weights.bin").write_bytes(b"0" * 101)
    (root / "jobs" / "weights.bin").write_bytes(b"0" * 101)
    cluster, run = config(tmp_path, trainer_paths=(mine,)), RunPaths(tmp_path / "runs")
    copy = snapshot.take(run, cluster, root)
    assert (copy / "theirs/0-methods/mine/weights.bin").readlink() == mine / "mine" / "weights.bin"
    assert not (copy / "jobs/weights.bin").exists()
    (mine / "mine" / "weights.bin").write_bytes(b"0" * 102)
    assert snapshot.code_folder(run, cluster, root) != copy


def test_a_run_root_or_an_environment_below_their_folder_is_left_out(tmp_path: Path, root: Path) -> None:
    mine = theirs(tmp_path, config="NAME = 'mine'\n")
    for name, file in (("runs", "result.json"), ("venv", "pyvenv.cfg"), (".git", "HEAD")):
        (mine / name / "deep").mkdir(parents=True)
        (mine / name / file).write_text("x")
        (mine / name / "deep" / "x.py").write_text("x")
    copy = snapshot.take(RunPaths(mine / "runs"), config(mine, trainer_paths=(mine,)), root)
    assert {name for name in listing(copy) if name.startswith("theirs")} == {"theirs/0-methods/mine/config.py"}


@pytest.mark.parametrize(("limit", "value"), [("MOST_FILES", 3), ("MOST_BYTES", 2 * 2**20)])
def test_a_folder_that_holds_more_than_code_is_refused(
    tmp_path: Path, root: Path, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, limit, value)
    mine = theirs(tmp_path, **{f"file{number}": "#" * 2**20 for number in range(4)})
    with pytest.raises(BackendError, match=r"name a folder that holds only code"):
        snapshot.code_folder(RunPaths(tmp_path / "runs"), config(tmp_path, trainer_paths=(mine,)), root)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, root: Path) -> None:
    with pytest.raises(BackendError, match=r"gone is not there: correct `trainer_paths` or `card_paths`"):
        snapshot.take(RunPaths(tmp_path / "runs"), config(tmp_path, trainer_paths=(tmp_path / "gone",)), root)


def test_code_that_changes_meanwhile_is_not_taken_for_what_was_promised(tmp_path: Path, root: Path) -> None:
    cluster, run = config(tmp_path), RunPaths(tmp_path / "runs")
    promised = snapshot.code_folder(run, cluster, root).name
    (root / "jobs" / "a.py").write_text("edited = True\n")
    with pytest.raises(BackendError, match=r"the code changed .* submit again") as raised:
        snapshot.take(run, cluster, root, name=promised)
    assert raised.value.transient
    assert list((tmp_path / "runs" / "code").iterdir()) == []
    kept = snapshot.take(run, cluster, root)
    (root / "jobs" / "a.py").write_text("edited = 2\n")
    assert snapshot.take(run, cluster, root, name=kept.name) == kept


def test_a_job_reads_what_was_copied_with_its_code(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, run = theirs(tmp_path, config="NAME = 'mine'\n"), RunPaths(tmp_path / "runs")
    copy = snapshot.take(run, config(tmp_path, trainer_paths=(mine,)), root)
    run.machine.write_text(json.dumps({"data_root": "/data", "trainer_paths": [str(mine)], "card_paths": ["/cards"]}))
    node = Node(spec=None, paths=None, run=run, host=None, store=None)  # type: ignore[arg-type]
    assert node.machine()["trainer_paths"] == [str(mine)]
    monkeypatch.setattr("jobs.stages.__file__", str(copy / "jobs" / "stages.py"))
    told = node.machine()
    assert told == {"data_root": "/data", "trainer_paths": [str(copy / "theirs/0-methods")], "card_paths": []}


def test_gc_lists_code_that_no_submission_runs(tmp_path: Path, root: Path) -> None:
    cluster, run = config(tmp_path), RunPaths(tmp_path / "runs")
    used, unused = "", ""
    for name in ("used", "unused"):
        (root / "jobs" / "a.py").write_text(name)
        used, unused = unused, snapshot.take(run, cluster, root).name
    intent = intents.new_intent(backend="slurm", sweep="toy", jobs={"a" * 64: 1}, detaches=True, terms={"code": used})
    intents.record(run, intent)
    fresh, left = run.root / "code" / f".{used}.1", run.root / "code" / f".{used}.2"
    fresh.mkdir()
    left.mkdir()
    os.utime(left, (time.time() - 7200,) * 2)
    assert {item.path.name for item in garbage.find(run, [])} == {unused, left.name}
    intents.end(run, intent.sid)
    assert {item.path.name for item in garbage.find(run, [])} == {used, unused, left.name}
    garbage.delete(garbage.find(run, []))
    assert [path.name for path in (run.root / "code").iterdir()] == [fresh.name]
    intents.record(run, intents.new_intent(backend="slurm", sweep="toy", jobs={"a" * 64: 1}, detaches=True))
    snapshot.take(run, cluster, root)
    assert garbage.find(run, []) == [], "an intent that does not say which code it runs may run any"
