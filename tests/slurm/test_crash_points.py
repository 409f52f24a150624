"""A client killed at any moment of a submission: who submits again finds every job once, and the same results."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.bench import __main__ as bench
from tests.bench import bench_faults
from tests.bench.page import Section, machine, write_page
from tests.slurm import crash_points
from tests.slurm.cluster import Cluster
from tests.slurm.crash_points import Ground, Outcome, Point
from tests.slurm.nursery import Nursery

#: Fewer would mean that the counting has gone blind.
LEAST = 200
#: Names the page that gets a section when every point was tried; relative to the top of the tree.
RECORD = "BENCHMARKS"


@dataclass(slots=True)
class Found:
    """What came of the points that were tried so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    load: float = field(default_factory=lambda: os.getloadavg()[0])


@pytest.fixture(scope="module")
def ground(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Nursery(slurm.env) as nursery:
        yield Ground.prepare(nursery, tmp_path_factory.mktemp("crash"))


@pytest.fixture(scope="module")
def found() -> Found:
    return Found()


def survive(ground: Ground, points: Sequence[Point], found: Found, capsys: pytest.CaptureFixture[str], which: str) -> None:
    begun = time.monotonic()
    outcomes = ground.outcomes(points)
    seconds = time.monotonic() - begun
    found.outcomes += outcomes
    found.seconds += seconds
    with capsys.disabled():
        died = sum(one.died for one in outcomes)
        sys.stdout.write(f"\n{len(points)} of {len(ground.points)} points, {which}: {died} clients died, {seconds:.0f} s\n")
    assert crash_points.problems(outcomes) == []


def test_there_are_enough_points_and_every_step_is_among_them(ground: Ground) -> None:
    first = [point.label for point in ground.points if not point.recovering]
    assert len(first) >= LEAST
    steps = {label.split()[0] for label in first}
    assert steps >= {"open", "write", "half", "fsync", "replace", "rename", "symlink", "mkdir", "touch", "lock", "unlock", "run", "sbatch"}
    assert first.count("sbatch has started") == 6


def test_a_client_killed_at_any_of_a_sixth_of_the_points_costs_nothing(
    ground: Ground, slurm: Cluster, found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    turn, commit = crash_points.turn()
    points = ground.points[turn :: crash_points.PARTS]
    survive(ground, points, found, capsys, f"turn {turn + 1} of {crash_points.PARTS} by commit {commit}")
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty: nothing is left behind in it")


@pytest.mark.slow
def test_a_client_killed_at_any_point_costs_nothing(
    ground: Ground, slurm: Cluster, found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = {one.point for one in found.outcomes}
    survive(ground, [point for point in ground.points if point not in tried], found, capsys, "all others")
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty: nothing is left behind in it")
    if page := os.environ.get(RECORD):
        rows = tuple(bench_faults.rows(found.outcomes, found.seconds))
        section = Section(
            name=bench_faults.NAME, when=datetime.now(UTC), machine=machine(), load=found.load, seconds=found.seconds, rows=rows
        )
        write_page(Path(bench.ROOT, page), section, bench.names())
