"""A sync killed at any of a hundred moments: who syncs again finds a store like one that nobody has disturbed.

The moments are spread over all that a sync does to its store: files that it opens, writes and renames, statements and commits of its
database. Those of a first sync, which makes the database, and those of a later one, which finds runs to make, to complete, to replace and
to put away.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType

from jobs.paths import RunPaths
from jobs.stages import Stopped
from orchestrator import tracking
from orchestrator.mirror import rows
from orchestrator.model import Plan
from tests.orchestrator.mirror.children import Child, in_child
from tests.orchestrator.mirror.mirrored import client_of, export, seed_database
from tests.orchestrator.mirror.played import Player, plan_of, trains
from tests.orchestrator.mirror.test_curves import report_of, write_report
from tests.slurm.crash_points import PARTS, turn
from tests.slurm.fault_points import Points

#: Of so many moments, a tenth lies in the making of the database.
MOMENTS = 100
IN_THE_MAKING = MOMENTS // 10
_WRITES = ("INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "REPLACE")


@dataclass(frozen=True, slots=True)
class Ground:
    """A run root, what its store was before the sync that is disturbed, and what comes out."""

    plan: Plan
    run: RunPaths
    before: Path
    folder: Path
    expected: Any
    moments: tuple[int, ...]
    passed: int

    def restore(self) -> None:
        shutil.rmtree(self.run.mlflow, ignore_errors=True)
        if self.before.exists():
            shutil.copytree(self.before, self.run.mlflow)

    def problem(self, moment: int) -> str:
        """Kill a sync at a moment, sync again, and say what is wrong with the store."""
        self.restore()
        code = Child(lambda: _sync(self.plan, self.run, at=moment), self.folder / "dying.answer").wait()
        if code != -signal.SIGKILL:
            return f"moment {moment}: it ended with {code} and did not pass the point"

        def again() -> Any:
            _sync(self.plan, self.run)
            return _content(self.run)

        try:
            found = in_child(again, self.folder / "again")
        except AssertionError as error:
            return f"moment {moment}: the next sync failed: {error}"
        return "" if found == self.expected else f"moment {moment}: another store: {_difference(found, self.expected)}"


def _sync(plan: Plan, run: RunPaths, at: int | None = None) -> list[str]:
    """Sync, and return the points that it passed; the process ends at one of them."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    points = Points(run.mlflow, at=at)
    points.install()

    def executing(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(_WRITES):
            points.before(f"execute {statement.split()[0]}")

    event.listen(Engine, "before_cursor_execute", executing)
    event.listen(Engine, "commit", lambda connection: points.before("commit"))

    class Watched(sqlite3.Connection):
        def executemany(self, *given: Any) -> sqlite3.Cursor:
            points.before("execute rows")
            return super().executemany(*given)

        def __exit__(self, *given: Any) -> Any:
            points.before("commit rows")
            return super().__exit__(*given)

    # The process is a child, and ends with this.
    rows.opened = lambda database: sqlite3.connect(database, factory=Watched)
    tracking.sync(plan, run)
    points.before("the end")
    return points.labels


def _content(run: RunPaths) -> Any:
    """Return all of an experiment: its runs, active and deleted ones, its tags."""
    client = client_of(run)
    found = client.get_experiment_by_name("play")
    assert found is not None
    every = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL)
    listed = sorted((str(one.info.run_name), one.info.lifecycle_stage) for one in every)
    return export(run, "play"), listed, dict(found.tags), [one.name for one in client.search_experiments()]


def _difference(found: Any, expected: Any) -> str:
    for one, other in zip(found, expected, strict=True):
        if one != other:
            if not isinstance(one, dict):
                return f"{one} instead of {other}"
            keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
            return f"{keys}: {str([one.get(keys[0]), other.get(keys[0])])[:2000]}"
    return ""


def _prepared(ground_folder: Path, template: Path, *, later: bool) -> Ground:
    """Play a sweep. `later`: a first sync was made half-way, of files that have changed since."""
    plan = plan_of(ground_folder)
    run, before = RunPaths(ground_folder / "run"), ground_folder / "before"
    player = Player(run=run)
    if later:
        half_way = [job for job in plan.jobs if job.phase == "pretrain"]
        stopped, failed, dropped = *trains(plan)[:2], half_way[1]
        player.troubles.raises[stopped.job_id], player.troubles.after[stopped.job_id] = Stopped(), 1
        player.troubles.raises[failed.job_id], player.troubles.after[failed.job_id] = ValueError("no luck"), 2
        player.play([*half_way, stopped, failed])
        seed_database(run, template)
        # One of them stands under another sweep's label and has to be made anew.
        labels = {**dropped.labels, "lr": 0.5}
        relabelled = replace(plan, jobs=tuple(replace(job, labels=labels) if job is dropped else job for job in plan.jobs))
        in_child(lambda: _sync(relabelled, run), ground_folder / "first")
        shutil.copytree(run.mlflow, before)
        player.troubles.raises.clear()
        # What came first is planned no more.
        gone = half_way[0].job_id
        player.play(plan.jobs)
        plan = replace(plan, jobs=tuple(job for job in plan.jobs if job.job_id != gone))
        write_report(run, report_of())
    else:
        player.play([job for job in plan.jobs if job.phase == "pretrain"])
    ground = Ground(plan, run, before, ground_folder, None, (), 0)
    ground.restore()
    passed = in_child(lambda: _sync(plan, run), ground_folder / "recording")
    expected = in_child(lambda: _content(run), ground_folder / "recording")
    made = next((number for number, label in enumerate(passed, 1) if label.startswith(("replace", "rename"))), 0)
    count, last = (IN_THE_MAKING, made + 2) if not later else (MOMENTS - IN_THE_MAKING, len(passed))
    return replace(ground, expected=expected, moments=tuple(spread(last, count)), passed=len(passed))


def spread(last: int, count: int) -> list[int]:
    """Return so many whole numbers from 1 to `last`, evenly spread, with both ends."""
    return sorted({round(1 + number * (last - 1) / (count - 1)) for number in range(count)})


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory, template: Path) -> list[Ground]:
    return [_prepared(tmp_path_factory.mktemp(f"killed{later:d}"), template, later=later) for later in (False, True)]


def problems(grounds: Sequence[Ground], parts: Sequence[int]) -> list[str]:
    moments = [(ground, moment) for ground in grounds for moment in ground.moments]
    chosen = [one for part in parts for one in moments[part::PARTS]]
    return [problem for ground, moment in chosen if (problem := ground.problem(moment))]


def test_there_are_a_hundred_moments(grounds: Sequence[Ground]) -> None:
    assert sum(len(ground.moments) for ground in grounds) == MOMENTS
    # The whole of a first sync and of a later one is walked through, not a corner of it.
    assert all(ground.passed > 2 * len(ground.moments) for ground in grounds)


def test_a_sync_killed_at_a_sixth_of_them_is_made_good(grounds: Sequence[Ground]) -> None:
    assert problems(grounds, [turn()[0]]) == []


@pytest.mark.slow
def test_a_sync_killed_at_any_of_them_is_made_good(grounds: Sequence[Ground]) -> None:
    assert problems(grounds, [part for part in range(PARTS) if part != turn()[0]]) == []
