"""A client killed at any moment of a submission: who submits again finds every job once, and the same results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import pytest

from tests.slurm import crash_points
from tests.slurm.cluster import Cluster
from tests.slurm.crash_points import Ground, Point
from tests.slurm.nursery import Nursery

#: Fewer would mean that the counting has gone blind.
LEAST = 200


@pytest.fixture(scope="module")
def ground(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Nursery(slurm.env) as nursery:
        yield Ground.prepare(nursery, tmp_path_factory.mktemp("crash"))


def survive(ground: Ground, points: list[Point], slurm: Cluster, capsys: pytest.CaptureFixture[str], which: str) -> None:
    begun = time.monotonic()
    found = ground.outcomes(points)
    seconds = time.monotonic() - begun
    with capsys.disabled():
        died = sum(one.died for one in found)
        sys.stdout.write(f"\n{len(points)} of {len(ground.points)} points, {which}: {died} clients died, {seconds:.0f} s\n")
    assert crash_points.problems(found) == []
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty: nothing is left behind in it")


def test_there_are_enough_points_and_every_step_is_among_them(ground: Ground) -> None:
    first = [point.label for point in ground.points if not point.recovering]
    assert len(first) >= LEAST
    steps = {label.split()[0] for label in first}
    assert steps >= {"open", "write", "half", "fsync", "replace", "rename", "symlink", "mkdir", "touch", "lock", "unlock", "run", "sbatch"}
    assert first.count("sbatch has started") == 6


def test_a_client_killed_at_any_of_a_sixth_of_the_points_costs_nothing(
    ground: Ground, slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    turn, commit = crash_points.turn()
    points = list(ground.points[turn :: crash_points.PARTS])
    survive(ground, points, slurm, capsys, f"turn {turn + 1} of {crash_points.PARTS} by commit {commit}")


@pytest.mark.slow
def test_a_client_killed_at_any_point_costs_nothing(ground: Ground, slurm: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    turn, _ = crash_points.turn()
    rest = [point for index, point in enumerate(ground.points) if index % crash_points.PARTS != turn]
    survive(ground, rest, slurm, capsys, "all others")
