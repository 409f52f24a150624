"""How jobs on the test cluster ended, attempt by attempt, and whether what they left is what an undisturbed run leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

from jobs.events import read_events
from jobs.paths import RunPaths
from jobs.spec import EventKind, JobSpec, State
from orchestrator.model import ClusterConfig, Plan
from tests.orchestrator import standin
from tests.orchestrator.client import run_here
from tests.orchestrator.standin import bodies
from tests.slurm import client
from tests.slurm.cluster import Cluster


def body(cluster: ClusterConfig, spec: JobSpec, number: int = 1) -> Callable[[], int]:
    """Return a question: the pid of the body of a job's start `number`, 0 while there is none."""
    folder = RunPaths(cluster.run_root).job(spec.job_id).folder
    return lambda: found[number - 1][1] if len(found := bodies(folder)) >= number else 0


def ends(cluster: ClusterConfig, spec: JobSpec) -> list[str]:
    """Return how each attempt of a job ended: the event, or the failure; `open` for one that left no word."""
    found: list[str] = []
    for attempt in RunPaths(cluster.run_root).job(spec.job_id).attempts():
        events = read_events(attempt.events)
        last = events[-1] if events else {}
        said = last.get("failure") or last.get("kind")
        found.append("open" if said in (None, EventKind.STARTED, EventKind.CHECKPOINTED) else str(said))
    return found


def submissions(cluster: ClusterConfig) -> int:
    """Return how many submissions there were."""
    return len(list((cluster.run_root / "submissions").glob("**/*.json")))


def finish(slurm: Cluster, cluster: ClusterConfig, over: Plan) -> None:
    """Wait for every result, letting what Slurm has requeued start at once, and see that no call is needed any more."""
    run = RunPaths(cluster.run_root)
    slurm.wait_until(lambda: all(run.job(one.job_id).result.exists() for one in over.jobs), release=True, what="for all results")
    slurm.wait_until(lambda: not slurm.squeue(), what="for the queue to be empty")
    after = client.hand_over(over, cluster, wait=False)
    assert (after.submitted, after.counts) == (0, {State.SUCCEEDED: len(over.jobs)})


def assert_as_if_nothing_had_happened(tmp_path: Path, cluster: ClusterConfig, over: Plan) -> None:
    """See that every job's result is the bytes of an undisturbed run."""
    alone = tmp_path / "alone"
    with mock.patch.object(standin, "PACE", 0.0):
        run_here(over, alone)
    for one in over.jobs:
        theirs, ours = RunPaths(alone).job(one.job_id), RunPaths(cluster.run_root).job(one.job_id)
        assert ours.result.read_bytes() == theirs.result.read_bytes()
