"""How long `status` takes for ten thousand jobs, on a real Slurm of three nodes on this machine.

All of them wait in the queue as ten arrays, held, so that nothing runs while it is measured. Ours is what comes after the scheduler's last
answer: reading it, folding the files of the run root, and making the table; plans are read while the scheduler is asked. Beside it stands
the scheduler's own time for the same answer, and what the files alone take when all jobs are done. The best of five.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

from jobs.events import process_identity
from jobs.paths import RunPaths
from jobs.spec import EventKind, State
from orchestrator import standing
from orchestrator.backends.slurm import commands
from orchestrator.console import out
from orchestrator.model import Plan
from orchestrator.status import status
from orchestrator.workspace import Workspace
from tests.bench.rows import Row
from tests.orchestrator import standin
from tests.slurm import client
from tests.slurm.cluster import Cluster, running_cluster
from tests.slurm.configuration import Settings

JOBS = 10_000
TIMES = 5
AIM = "aim 0.3 s"


class Clock:
    """Notes how long Slurm's commands take, and when the last of them has answered."""

    def __init__(self) -> None:
        self._call = commands.call
        self.spent = self.answered = 0.0
        self.calls = 0
        commands.call = self

    def __call__(self, *command: str) -> CompletedProcess[str]:
        begun = time.perf_counter()
        done = self._call(*command)
        self.answered = time.perf_counter()
        self.spent += self.answered - begun
        self.calls += 1
        return done

    def off(self) -> None:
        commands.call = self._call


def looked(workspace: Workspace) -> tuple[float, float, float, int]:
    """Return the seconds of one status: ours after the last answer, the scheduler's, all of them, and how often it was asked."""
    clock = Clock()
    try:
        begun = time.perf_counter()
        found = standing.standings(workspace)
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            console = out()
            console.file = nowhere
            for one in found.sweeps:
                console.print(standing.state_table(one.status))
                console.print("\n".join([*standing.waits_in_words(one), *standing.troubles(one.status)]))
        ended = time.perf_counter()
    finally:
        clock.off()
    (one,) = found.sweeps
    if one.status.counts != {State.SUBMITTED: JOBS}:
        raise RuntimeError(f"not all of them wait: {one.status.counts}")
    return ended - clock.answered, clock.spent, ended - begun, clock.calls


def finish(plan: Plan, run: RunPaths) -> None:
    """Leave what jobs leave that have succeeded."""
    me, now = json.dumps(process_identity()), time.time()
    kinds = (EventKind.STARTED, EventKind.CHECKPOINTED, EventKind.CHECKPOINTED, EventKind.SUCCEEDED)
    events = "".join(
        json.dumps({"kind": kind, "time": now + n, "step": n, "epoch": n}, sort_keys=True) + "\n" for n, kind in enumerate(kinds)
    )
    for job in plan.jobs:
        paths = run.job(job.job_id)
        attempt = paths.attempt(1)
        attempt.folder.mkdir(parents=True)
        attempt.claim.write_text(me, encoding="utf-8")
        attempt.events.write_text(events, encoding="utf-8")
        paths.result.write_text("{}\n", encoding="utf-8")


def of_files(plan: Plan, run: RunPaths) -> float:
    """Return the seconds that folding the files of jobs takes that are all done."""
    begun = time.perf_counter()
    counts = status(plan, run, polled={}).counts
    seconds = time.perf_counter() - begun
    if counts != {State.SUCCEEDED: JOBS}:
        raise RuntimeError(f"not all of them are done: {counts}")
    return seconds


@contextmanager
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running_cluster(Path(folder), Settings(max_job_count=20_000)) as cluster:
        before = {name: os.environ.get(name) for name in cluster.env}
        os.environ.update(cluster.env)
        try:
            yield cluster
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def measure() -> list[Row]:
    """Hand ten thousand held jobs to Slurm and ask where they stand."""
    plan = standin.plan(*(standin.job(f"lr={n}") for n in range(JOBS)))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _cluster():
        config = client.config(Path(folder), extra={"hold": "true"})
        client.hand_over(plan, config, wait=False)
        workspace = Workspace(cluster=config)
        waiting = [looked(workspace) for _ in range(TIMES)]
        ours, theirs, whole = (min(one[n] for one in waiting) for n in range(3))
        finish(plan, workspace.run)
        done = min(of_files(plan, workspace.run) for _ in range(TIMES))
    return [
        Row(
            what=f"status of {JOBS:,} waiting jobs, after the scheduler's answer",
            ours=f"{ours:.2f} s",
            beside=f"{theirs:.2f} s (the scheduler itself, {waiting[0][3]} calls)",
            against=AIM,
            note=f"{whole:.2f} s from the start to the table",
        ),
        Row(what=f"the files of {JOBS:,} finished jobs", ours=f"{done:.2f} s", note="state, attempt, start and end of each"),
    ]
