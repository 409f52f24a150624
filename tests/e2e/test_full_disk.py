"""Run roots on disks that are too small, cannot be written, or are no folder: a sentence, exit code 2, and the same command goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.spec import Stage
from tests.e2e.lab import FLOOR, Lab, assert_said, make_data

#: The floor, whose files are small, and then a network whose resume files are not.
TWO = """sweep: two
data: chexpert
phases:
  score:
    trainer: thumbnail
    config: {px: 32, labels: [pleural_effusion, cardiomegaly]}
    draws: {count: [24], repeats: 1}
    pick: {metric: val/loss, mode: min}
    evaluate: [{data: same, split: test}]
  tune:
    trainer: classification
    config: {arch: slim, px: 32, labels: [pleural_effusion, cardiomegaly], epochs: 1, batch_size: 8}
    draws: {count: [24], repeats: 2}
    pick: {metric: val/loss, mode: min}
    evaluate: [{data: same, split: test}]
report: {measure: auroc/pleural_effusion}
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("real"))


@pytest.fixture
def lab(tmp_path: Path, real: Path) -> Lab:
    return Lab(tmp_path / "lab", real)


@pytest.fixture
def disk(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Mount a file system of its own as the run root, and change its options."""
    root, mounted = lab.run.root, [False]

    def mount(options: str) -> None:
        root.mkdir(exist_ok=True)
        how = ["mount", "-t", "tmpfs", "-o", ("remount," if mounted[0] else "") + options, "tmpfs", str(root)]
        subprocess.run(how, check=True, capture_output=True)
        mounted[0] = True

    yield mount
    if mounted[0]:
        subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.mark.needs("root")
def test_a_disk_that_fills_up_keeps_what_was_done_and_the_same_command_goes_on(lab: Lab, disk: Callable[[str], None]) -> None:
    disk("size=8m")
    sweep = lab.write("two.yaml", TWO)
    said = lab.spawn("submit", sweep)
    assert_said(said, 2, "no space to write checkpoint 'state-000001'", "2 failed, 4 new, 3 succeeded")
    assert_said(said, 2, "free some space, or set `run_root` in the cluster config to another disk, then type the same command again")
    assert_said(said, 2, f"when there is room: orchestrate submit {sweep} --cluster {lab.config}")
    assert said.text.count("failed: ") == 1, "two jobs that fail in the same way are told once"
    assert not list(lab.run.root.glob("jobs/*/*/checkpoints/*.tmp")), "no partial file stays"
    kept = lab.results()
    assert len(kept) == 3
    disk("size=256m")
    assert_said(lab.spawn("submit", sweep), 0, "6 jobs run", "9 succeeded", "report: ")
    assert {job: lab.results()[job] for job in kept} == kept
    assert lab.attempts(Stage.TRAIN, "two") == [1, 2, 2]


@pytest.mark.needs("root")
def test_a_disk_without_room_for_a_record_is_one_sentence(lab: Lab, disk: Callable[[str], None]) -> None:
    """Not even what is intended can be noted down, so nothing is started."""
    disk("size=16k")
    said = lab.spawn("submit", lab.sweep)
    assert_said(said, 2, f"{lab.run.root}", "no space left on device; free some space, or set `run_root`", "what was done is kept")
    assert not lab.results()
    disk("size=64m")
    assert_said(lab.spawn("submit", lab.sweep), 0, "6 succeeded")


@pytest.mark.needs("root")
def test_a_disk_that_others_filled_is_one_sentence(lab: Lab, disk: Callable[[str], None]) -> None:
    disk("size=16m")
    lab.write("floor.yaml", FLOOR.replace("repeats: 2", "repeats: 1"))
    assert_said(lab.spawn("submit", lab.sweep), 0, "3 succeeded")
    kept = lab.results()
    with (lab.run.root / "theirs").open("wb", buffering=0) as theirs, pytest.raises(OSError, match="No space left"):
        while theirs.write(bytes(4096)):
            pass
    lab.write("floor.yaml", FLOOR)
    assert_said(lab.spawn("submit", lab.sweep), 2, f"{lab.run.root}", "no space left on device; free some space, or set `run_root`")
    assert lab.results() == kept
    (lab.run.root / "theirs").unlink()
    assert_said(lab.spawn("submit", lab.sweep), 0, "3 jobs run", "6 succeeded")
    assert {job: lab.results()[job] for job in kept} == kept


@pytest.mark.needs("root")
def test_a_disk_that_cannot_be_written_is_one_sentence(lab: Lab, disk: Callable[[str], None]) -> None:
    disk("size=64m,ro")
    assert_said(lab.type("plan", lab.sweep), 0, "+ 6 new")
    said = lab.type("submit", lab.sweep)
    assert_said(said, 2, f"{lab.run.root}", "read-only file system; correct its permissions, or name another place in the cluster config")
    disk("size=64m,rw")
    assert_said(lab.type("submit", lab.sweep), 0, "6 succeeded")


def test_a_run_root_that_may_not_be_written_is_one_sentence(lab: Lab) -> None:
    closed = lab.folder / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    lab.configure(run_root=str(closed / "runs"))
    said = lab.spawn("submit", lab.sweep, humble=True)
    assert_said(said, 2, f"{closed / 'runs'}", "permission denied; correct its permissions, or name another place in the cluster config")
    assert_said(lab.spawn("doctor", humble=True), 2, f"{closed} cannot be written: set `run_root` in the cluster config")


def test_a_run_root_below_a_file_is_one_sentence(lab: Lab) -> None:
    file = lab.write("file", "")
    lab.configure(run_root=str(file / "runs"))
    for command in (["submit", lab.sweep], ["status"], ["report", "floor"]):
        said = lab.type(*command)
        assert said.code in (0, 2)
        assert "Traceback" not in said.text, said.text
    assert_said(lab.type("submit", lab.sweep), 2, f"{file / 'runs'}", "not a directory; correct that path")


@pytest.mark.needs("root")
def test_made_data_that_finds_no_room_says_where(lab: Lab, disk: Callable[[str], None]) -> None:
    disk("size=1m")
    lab.configure(made_root=str(lab.run.root / "made"))
    lab.sweep = lab.write("floor.yaml", FLOOR.replace("data: chexpert", "data: phantom"))
    said = lab.type("submit", lab.sweep, "--sample")
    assert_said(said, 2, f"{lab.run.root / 'made'}: made data could not be written (", "free some space, or set `made_root`")
    assert not list((lab.run.root / "made").glob("*/MADE.json"))
