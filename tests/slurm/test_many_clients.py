"""Several clients at the same moment: each job is submitted by one of them, and all of them find the same."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from orchestrator import intents
from tests.slurm import crash_client
from tests.slurm.cluster import Cluster
from tests.slurm.crash_points import HALF_WAY, SHORTER, place_of, problem_of, recorded, said, submissions
from tests.slurm.nursery import Client, Errand, Nursery

PARTS_OF_STUDY = 6


@pytest.fixture(scope="module")
def nursery(slurm: Cluster) -> Iterator[Nursery]:
    with Nursery(slurm.env) as nursery:
        yield nursery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose run root has the code already, so that clients come to what matters at the same moment."""
    crash_client.share_code(tmp_path / "here", tmp_path / "code")
    return tmp_path / "here"


def together(nursery: Nursery, folder: Path, plans: list[str], **how: object) -> list[Client]:
    """Start a client for each plan, hold them at the door, and let them in at once."""
    door = folder / "door"
    clients = [
        nursery.start(
            Errand(
                **{"folder": str(folder), "name": f"client{n}", "plan": plan, "wait": True, "shorter": SHORTER, "after": str(door), **how}
            )
        )
        for n, plan in enumerate(plans)
    ]
    door.touch()
    return clients


def last_words(folder: Path, number: int) -> tuple[int, str]:
    """Return how many jobs a client says that it submitted, and where it says that they stand."""
    found = re.search(r"submitted (\d+); (.*)", said(folder, f"client{number}"))
    assert found is not None, said(folder, f"client{number}")
    return int(found[1]), found[2]


@pytest.mark.parametrize("count", [2, 8])
def test_the_same_sweep_is_submitted_by_one_and_followed_by_all(nursery: Nursery, folder: Path, count: int) -> None:
    clients = together(nursery, folder, ["study"] * count)
    assert [client.wait() for client in clients] == [0] * count, [said(folder, f"client{n}") for n in range(count)]
    assert problem_of(folder, None) == ""
    told = [last_words(folder, number) for number in range(count)]
    assert sorted(number for number, _ in told) == [0] * (count - 1) + [9]
    assert len({words for _, words in told}) == 1
    assert len(submissions(folder)) == PARTS_OF_STUDY


def test_sweeps_that_share_jobs_run_these_once_and_each_goes_on_from_them(nursery: Nursery, folder: Path) -> None:
    plans = ["study", "sibling", "study", "sibling"]
    clients = together(nursery, folder, plans)
    assert [client.wait() for client in clients] == [0] * 4, [said(folder, f"client{n}") for n in range(4)]
    assert [problem_of(folder, None, plan) for plan in ("study", "sibling")] == ["", ""]
    covered = [item["job"] for one in submissions(folder) for item in one["jobs"]]
    assert len(covered) == len(set(covered)), "no job was submitted twice, not even one that had to be refused for want of its parent"


def test_several_that_wait_take_over_together_what_one_of_them_leaves_half_way(nursery: Nursery, folder: Path, tmp_path: Path) -> None:
    crash_client.share_code(tmp_path / "counted", tmp_path / "code")
    at = place_of(recorded(nursery, Errand(folder=str(tmp_path / "counted"), name="first", plan="study", record=True)), *HALF_WAY)
    assert nursery.run(Errand(folder=str(folder), name="dying", plan="study", at=at)) == -signal.SIGKILL
    clients = together(nursery, folder, ["study", "sibling", "study", "study"])
    assert [client.wait() for client in clients] == [0] * 4, [said(folder, f"client{n}") for n in range(4)]
    assert [problem_of(folder, None, plan) for plan in ("study", "sibling")] == ["", ""]


@pytest.mark.parametrize("moment", ["run sbatch", "sbatch has started", "sbatch has ended", "lock lock"])
@pytest.mark.parametrize("occurrence", [1, 3])
def test_a_client_that_slept_while_another_took_over_wakes_up_and_harms_nothing(
    nursery: Nursery, folder: Path, slurm: Cluster, tmp_path: Path, moment: str, occurrence: int
) -> None:
    """Its laptop was shut in the middle of handing over; the other one is on another host and cannot see that it still lives."""
    crash_client.share_code(tmp_path / "counted", tmp_path / "code")
    passed = recorded(nursery, Errand(folder=str(tmp_path / "counted"), name="first", plan="study", record=True))
    at = place_of(passed, moment, occurrence if moment != "lock lock" else occurrence + 1)
    sleeper = nursery.start(Errand(folder=str(folder), name="client0", plan="study", at=at, signum=signal.SIGSTOP))
    sleeper.wait_until_stopped()
    run = RunPaths(crash_client.config(folder).run_root)
    move_owner_elsewhere(run)
    assert nursery.run(Errand(folder=str(folder), name="client1", plan="study", wait=True, shorter=SHORTER)) == 0, said(folder, "client1")
    assert problem_of(folder, None) == ""
    put_away = {file.stem for file in (run.submissions / "ended").glob("*.json")}
    os.kill(sleeper.pid, signal.SIGCONT)
    assert sleeper.wait() == 0, said(folder, "client0")
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    assert problem_of(folder, None) == ""
    assert put_away.isdisjoint(held.intent.sid for held in intents.open_intents(run)), "what was put away has come back"


def move_owner_elsewhere(run: RunPaths) -> None:
    """Make intents without a number look as they do from another host, two minutes after their owner's last sign of life."""
    for held in intents.open_intents(run):
        if held.intent.native is None:
            file = intents.record_file(run, held.intent.sid)
            content = json.loads(file.read_text())
            content["owner"]["host"] = "elsewhere"
            aside = file.with_suffix(".aside")
            aside.write_text(json.dumps(content))
            aside.replace(file)
            past = file.stat().st_mtime - intents.STALE_AFTER
            for one in (file, file.with_suffix(".beat")):
                os.utime(one, (past, past))
