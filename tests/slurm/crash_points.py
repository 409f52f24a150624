"""Kill a client at each point of a submission, submit again, and look whether anything ran twice, was lost, or came out otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.paths import RunPaths
from jobs.spec import SHORT_ID
from tests.orchestrator.standin import bodies
from tests.slurm import client, crash_client
from tests.slurm.nursery import Errand, Nursery

#: The waits of the protocol, in seconds, as a client has them that submits again: two minutes are long for a test.
SHORTER: Mapping[str, float] = {
    "orchestrator.intents:STALE_AFTER": 2.0,
    "orchestrator.backends.slurm.launch:LOOK_AGAIN_AFTER": 1.0,
    "orchestrator.submit:FOLLOW_EVERY": 1.0,
    "orchestrator.submit:FOLLOW_SCHEDULER_EVERY": 2.0,
}
#: For one that does not wait at all before it looks for what another has submitted, so that it always goes the same way.
AT_ONCE_STALE: Mapping[str, float] = {**SHORTER, "orchestrator.intents:STALE_AFTER": 0.0}
#: So many run roots are in flight side by side: what one waits for costs the others nothing.
AT_ONCE = 6
#: A client that dies here has submitted four of six and half of the fifth, an array: it is in the queue, and has no pickles.
HALF_WAY = ("sbatch has ended", 5)
#: What CI takes of all points.
PARTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One moment to die at."""

    number: int
    label: str
    #: The client that dies is not the first one but the one that takes over from a client that died half-way.
    recovering: bool = False

    def __str__(self) -> str:
        return f"{'recovery' if self.recovering else 'submission'} {self.number}, before: {self.label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of dying at a point."""

    point: Point
    #: The client died there; one that recovers may take another way than the one that was recorded.
    died: bool
    #: What is wrong; empty when nothing is.
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where points are tried: one cluster, a folder for each point, and what an undisturbed run leaves."""

    nursery: Nursery
    folder: Path
    expected: Mapping[str, bytes]
    points: tuple[Point, ...]

    @classmethod
    def prepare(cls, nursery: Nursery, folder: Path) -> Ground:
        """Run the plan undisturbed, and once with a death half-way, and write down the points that clients pass."""
        first = folder / "undisturbed"
        crash_client.share_code(first, folder / "code")
        passed = recorded(nursery, Errand(folder=str(first), name="first", plan="study", record=True))
        finish(nursery, first)
        expected, problem = results(first), problem_of(first, None)
        if problem:
            raise AssertionError(f"nothing was disturbed, and yet: {problem}")
        second = folder / "half-way"
        crash_client.share_code(second, folder / "code")
        half_way = place_of(passed, *HALF_WAY)
        nursery.run(Errand(folder=str(second), name="first", plan="study", at=half_way))
        recovery = recorded(nursery, Errand(folder=str(second), name="second", plan="study", record=True, shorter=AT_ONCE_STALE))
        finish(nursery, second)
        if problem := problem_of(second, expected):
            raise AssertionError(f"after {HALF_WAY}: {problem}")
        points = [Point(number=number, label=label) for number, label in enumerate(passed, 1)]
        points += [Point(number=number, label=label, recovering=True) for number, label in enumerate(recovery, 1)]
        return cls(nursery, folder, expected, tuple(points))

    @property
    def half_way(self) -> int:
        return place_of([point.label for point in self.points if not point.recovering], *HALF_WAY)

    def outcomes(self, points: Sequence[Point]) -> list[Outcome]:
        """Try points, several at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.outcome, points))

    def outcome(self, point: Point) -> Outcome:
        """Let a client die at a point, submit again to the end, and look."""
        folder = self.folder / f"{'recovery' if point.recovering else 'submission'}-{point.number}"
        crash_client.share_code(folder, self.folder / "code")
        if point.recovering:
            self.nursery.run(Errand(folder=str(folder), name="first", plan="study", at=self.half_way))
        shorter = AT_ONCE_STALE if point.recovering else None
        code = self.nursery.run(Errand(folder=str(folder), name="dying", plan="study", at=point.number, shorter=shorter))
        died = code < 0
        problem = "" if died or point.recovering else f"it ended with {code} and did not pass the point: {said(folder, 'dying')}"
        if code == crash_client.RAISED:
            problem = said(folder, "dying")
        code = finish(self.nursery, folder)
        if code:
            problem = f"{problem}; submitting again ended with {code}: {said(folder, 'last')}"
        return Outcome(point=point, died=died, problem=problem or problem_of(folder, self.expected))


def recorded(nursery: Nursery, errand: Errand) -> list[str]:
    code = nursery.run(errand)
    if code:
        raise AssertionError(f"the recording client ended with {code}: {said(Path(errand.folder), errand.name)}")
    return json.loads((Path(errand.folder) / f"{errand.name}.points").read_text())


def finish(nursery: Nursery, folder: Path) -> int:
    return nursery.run(Errand(folder=str(folder), name="last", plan="study", wait=True, shorter=SHORTER))


def place_of(labels: Sequence[str], label: str, occurrence: int) -> int:
    """Return the number of the point with that label, counted from 1."""
    return [number for number, one in enumerate(labels, 1) if one == label][occurrence - 1]


def said(folder: Path, name: str) -> str:
    return (folder / f"{name}.log").read_text()[-2000:]


def results(folder: Path, plan: str = "study") -> dict[str, bytes]:
    """Return the bytes of every result of a plan, by trial; what is missing is empty."""
    run = RunPaths(crash_client.config(folder).run_root)
    found = {job.trial: run.job(job.job_id).result for job in crash_client.PLANS[plan]().jobs}
    return {trial: path.read_bytes() if path.exists() else b"" for trial, path in found.items()}


def problem_of(folder: Path, expected: Mapping[str, bytes] | None, plan: str = "study") -> str:
    """Say what is wrong with a run that should be complete: a body that ran twice, a job without a result, other bytes."""
    run = RunPaths(crash_client.config(folder).run_root)
    found = results(folder, plan)
    for job in crash_client.PLANS[plan]().jobs:
        ran = bodies(run.job(job.job_id).folder)
        if len(ran) != 1:
            return f"{job.trial} ({job.job_id[:SHORT_ID]}): its body ran {len(ran)} times: {ran}"
        if not found[job.trial]:
            return f"{job.trial}: lost"
        if expected is not None and found[job.trial] != expected[job.trial]:
            return f"{job.trial}: another result: {found[job.trial]!r}"
    return ""


def submissions(folder: Path) -> list[dict[str, Any]]:
    """Return the records of all submissions of a run root, also of those that were put away."""
    submitted = RunPaths(crash_client.config(folder).run_root).submissions
    return [json.loads(file.read_text()) for file in sorted([*submitted.glob("*.json"), *submitted.glob("ended/*.json")])]


def turn() -> tuple[int, str]:
    """Return which part of the points CI takes at this commit, counted from 0, and the commit."""
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=client.ROOT, capture_output=True, text=True, check=False)
    commit = told.stdout.strip() or os.environ.get("GITHUB_SHA", "")
    return int(hashlib.sha256(commit.encode()).hexdigest(), 16) % PARTS, commit[:SHORT_ID] or "no commit"


def problems(found: Iterable[Outcome]) -> list[str]:
    """Return what is wrong, a line a point."""
    return [f"{one.point}: {one.problem}" for one in found if one.problem]
