"""A real Ray Tune: the whole plan as one experiment, with workers and drivers that die.

Starting Ray takes seconds, so each test gets as much as it can out of one start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.events import process_identity, read_events
from jobs.paths import RunPaths
from jobs.spec import Resources, Stage, State
from orchestrator.backends import base, ray_own
from orchestrator.backends import ray as backend
from orchestrator.backends.base import Notice
from orchestrator.errors import BackendError
from orchestrator.execution.board import shape_of
from orchestrator.submit import submit
from tests.orchestrator import client
from tests.orchestrator.client import press_ctrl_c, start, wait_until
from tests.orchestrator.standin import RUNNER, bodies, chain, job, plan

PATIENCE = 120.0


def test_a_plan_with_everything_that_can_happen_to_a_job(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dependent phases, a loser, a failure, a worker that kills itself, workers of two sizes: one experiment, nothing on the terminal."""
    monkeypatch.setenv("RAY_ADDRESS", "10.9.8.7:6379")
    monkeypatch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "3")
    environment = dict(os.environ)
    big = job("big", config={"seconds": 0.1}, resources=Resources(cpus=2), phase="big")
    over = plan(
        *chain("good", seconds=0.3),
        *chain("other", seconds=0.3),
        *chain("lost", fail="DIVERGED"),
        *chain("bad", fail="ERROR"),
        *chain("killed", seconds=0.3, die=[1]),
        big,
        job("after big", (big,), stage=Stage.PICK),
    )
    notices: list[Notice] = []
    summary = client.run_here(over, tmp_path, "ray", notify=notices.append)
    out, errors = capfd.readouterr()

    names = over.by_id()
    states = {names[one].trial: status.state for one, status in summary.states.items()}
    not_done = {name: state for name, state in states.items() if state is not State.SUCCEEDED}
    assert not_done == {
        "lost/train": State.FAILED,
        "bad/train": State.FAILED,
        "bad/pick": State.NEW,
        "bad/evaluate": State.NEW,
    }
    run = RunPaths(tmp_path)
    attempts = {spec.trial: [number for number, _ in bodies(run.job(spec.job_id).folder)] for spec in over.jobs}
    assert attempts["killed/train"] == [1, 2], "a worker that dies takes one attempt with it and no plan"
    assert all(numbers == [1] for name, numbers in attempts.items() if states[name] is State.SUCCEEDED and name != "killed/train")
    assert [n.kind for n in notices].count("again") == 1

    pids = [pid for spec in over.jobs for _, pid in bodies(run.job(spec.job_id).folder)]
    assert os.getpid() not in pids
    assert len(set(pids)) < len(pids), "workers are used again"
    assert (out, errors) == ("", ""), "Ray speaks to its log only"
    assert "died" in next(run.submissions.glob("*.log")).read_text(), "where a worker's death is told"
    assert dict(os.environ) == environment, "what Ray needs of the environment is put back"
    assert not [f for f in Path("/tmp").glob("orch-ray-*/owner.json") if json.loads(f.read_text())["pid"] == os.getpid()]


def test_ctrl_c_saves_and_ends_and_kill_9_of_the_driver_is_gone_on_from(tmp_path: Path) -> None:
    seconds = 3.0
    over = client.chains("c", seconds, 4)
    run = RunPaths(tmp_path)
    trains = [run.job(spec.job_id).folder for spec in over.jobs if spec.stage is Stage.TRAIN]

    def progress() -> list[int]:
        return [int((folder / "progress").read_text()) if (folder / "progress").exists() else 0 for folder in trains]

    def under_way() -> bool:
        return any(0 < done < 150 for done in progress())

    first = start(tmp_path, "ray", seconds=seconds, count=4)
    wait_until(under_way, "a job to be under way", PATIENCE)
    press_ctrl_c(first)
    out, errors = first.communicate(timeout=PATIENCE)
    assert (first.returncode, errors) == (1, "")
    said = json.loads(out.splitlines()[-1])
    assert said["halted"] is True
    assert said["counts"].get("SUCCEEDED", 0) == 0
    assert said["counts"]["INTERRUPTED"] >= 1
    saved = progress()

    second = start(tmp_path, "ray", seconds=seconds, count=4)
    wait_until(lambda: sum(progress()) > sum(saved) + 20, "the job to go on", PATIENCE)
    second.kill()
    second.communicate()

    third = start(tmp_path, "ray", seconds=seconds, count=4)
    out, errors = third.communicate(timeout=PATIENCE)
    assert (third.returncode, errors) == (0, "")
    assert json.loads(out.splitlines()[-1])["counts"] == {"SUCCEEDED": 12}
    for spec in over.jobs:
        ran = bodies(run.job(spec.job_id).folder)
        assert len({number for number, _ in ran}) == len(ran), f"{spec.trial}: an attempt ran twice"
    assert progress() == [300] * 4
    interrupted = max(len(bodies(folder)) for folder in trains)
    assert interrupted == 3, "the same job was saved, killed and finished"


def test_a_colleagues_ray_is_not_joined_and_no_more_is_taken_than_the_config_says(tmp_path: Path) -> None:
    theirs = start(tmp_path / "theirs", "ray", seconds=100.0, count=1)
    busy = RunPaths(tmp_path / "theirs").job(client.chains("c", 100.0, 1).jobs[0].job_id).folder
    owners: set[int] = set()

    def look(notice: Notice) -> None:
        del notice
        owners.update(json.loads(file.read_text())["pid"] for file in Path("/tmp").glob("orch-ray-*/owner.json"))

    try:
        wait_until(lambda: bool(bodies(busy)), "the colleague's job to run", PATIENCE)
        over = plan(*(job(f"ours{number}", config={"seconds": 0.3}) for number in range(3)))
        config = client.cluster(tmp_path / "ours", "ray", cpus=1)
        run = RunPaths(config.run_root)
        done = submit(over, run, config, base.load(config), machine={}, runner=RUNNER, notify=look)
        assert done.counts == {State.SUCCEEDED: 3}
        assert owners >= {os.getpid(), theirs.pid}, "a folder each"
        events = [read_events(run.job(one.job_id).attempt(1).events) for one in over.jobs]
        spans = sorted((one[0]["time"], one[-1]["time"]) for one in events)
        assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans)), "one after the other on one core"
        assert theirs.poll() is None
        press_ctrl_c(theirs)
        out, errors = theirs.communicate(timeout=PATIENCE)
    finally:
        theirs.kill()
        theirs.communicate()
    assert (theirs.returncode, errors) == (1, "")
    assert json.loads(out.splitlines()[-1])["counts"] == {"INTERRUPTED": 1, "NEW": 2}
    assert len(bodies(busy)) == 1, "it ran on beside ours, once"


def test_a_ray_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import ray, sys; from pathlib import Path; from tests.orchestrator import client\n"
        "from orchestrator.errors import BackendError\n"
        "ray.is_initialized = lambda: True\n"
        "try:\n    client.run_here(client.chains('c', 0.0, 1), Path(sys.argv[1]), 'ray')\n"
        "except BackendError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=client.ROOT, check=True)
    assert "connected to another Ray; call `ray.shutdown()` first" in done.stdout


def test_a_ray_that_cannot_start_is_one_sentence_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def is_initialized(self) -> bool:
            return False

        def init(self, **_: object) -> None:
            raise ConnectionError("no room for a socket")

        def shutdown(self) -> None:
            pass

    monkeypatch.setattr(ray_own, "_import_ray", Broken)
    over = client.chains("c", 0.0, 1)
    with pytest.raises(BackendError, match=r"Ray stopped \(no room for a socket\); its log is .*submit again") as raised:
        client.run_here(over, tmp_path, "ray")
    assert raised.value.transient
    assert client.run_here(over, tmp_path, "inline").exit_code == 0


def test_what_a_killed_driver_left_on_disk_is_swept_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_own, "_short_folder", lambda: str(tmp_path))
    names = ("dead", "alive", "fresh", "old")
    folders = {name: tmp_path / f"orch-ray-{name}" for name in names}
    for folder in folders.values():
        folder.mkdir()
    mine = process_identity()
    (folders["alive"] / "owner.json").write_text(json.dumps(mine))
    (folders["dead"] / "owner.json").write_text(json.dumps({**mine, "started": 1}))
    os.utime(folders["old"], (1, 1))
    ray_own.sweep_up()
    assert {name for name, folder in folders.items() if folder.exists()} == {"alive", "fresh"}


def test_a_pick_takes_the_worker_that_is_free_and_nothing_else_does() -> None:
    train, pick, _ = chain("a")
    queued = [backend.Queued(spec=spec, attempt=1, resources=Resources(cpus=1)) for spec in (train, pick)]
    assert [shape_of(one) for one in queued] == [(1, 0), None]
    assert [backend._slot(one, (4, 1)) for one in queued] == [(1, 0), (4, 1)]
    assert backend._slot(queued[1], None) == (1, 0)
    wide = backend.Queued(spec=pick, attempt=1, resources=Resources(cpus=8))
    assert backend._slot(wide, (4, 1)) == (8, 0)
