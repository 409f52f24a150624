"""Bring MLflow up to what the files say again and again, until nothing of a sweep is queued or running.

`orchestrate sync --follow` does it where somebody types it. A Slurm allocation runs `python -m orchestrator.mirror.follow FILE` beside its
jobs when MLflow is a server and the cluster config says that nodes reach it: the jobs themselves know no tracker.
"""

from __future__ import annotations

import pickle
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.exit_codes import EXIT_DONE, EXIT_FAILED
from orchestrator.ledger import JobStatus, states
from orchestrator.model import ClusterConfig, Plan
from orchestrator.plans import read_plan

#: Seconds from one end to the next begin.
EVERY = 30.0
_LIVE = frozenset({State.SUBMITTED, State.RUNNING, State.UNKNOWN})


def follow(
    plans: Sequence[Plan],
    run: RunPaths,
    *,
    uri: str,
    code: str = "",
    say: Callable[[str], None],
    look: Callable[[], Mapping[str, JobStatus]],
    every: float = EVERY,
    halt: threading.Event,
) -> int:
    """Sync until all jobs are at an end or somebody asks for a halt, and once more after that. Returns the exit code of the last sync.

    `look` tells where the jobs of these plans stand, as the ledger and the scheduler say. A store that does not answer is said once and
    tried again: the files keep what it has missed.
    """
    said = ""
    while True:
        over = halt.is_set() or not any(status.state in _LIVE for status in look().values())
        problem = ""
        for plan in plans:
            try:
                told = _in_words(plan, tracking.sync(plan, run, uri=uri, code=code))
            except TrackingError as error:
                problem = str(error)
                break
            if told:
                say(told)
        if problem and problem != said:
            say(problem)
        said = problem
        if over:
            return EXIT_FAILED if problem else EXIT_DONE
        halt.wait(every)


def _in_words(plan: Plan, synced: tracking.Synced) -> str:
    """Say what a sync has changed; empty when nothing."""
    counts = {"new": synced.created + synced.replaced, "brought up to date": synced.updated, "put away": synced.removed}
    changed = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    return f"{plan.sweep}: {synced.runs} runs in MLflow, {changed}, {synced.metrics} values" if changed else ""


def main(arguments: Sequence[str]) -> int:
    """Follow one sweep for an allocation, until that ends this process by TERM; `--once` sends what there is. Returns the exit code."""
    halt = threading.Event()
    if "--once" in arguments:
        halt.set()

    def ask(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        halt.set()

    signal.signal(signal.SIGTERM, ask)
    # Time limits and preemption are the jobs' matter.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    file = Path(arguments[0])
    # Written by whoever submitted, into the run root, as the pickles of submitit are.
    cluster: ClusterConfig = pickle.loads(file.read_bytes())
    run = RunPaths(cluster.run_root)
    plan = read_plan(run.sweep(file.parent.name).plan)
    jobs = [job.job_id for job in plan.jobs]
    return follow([plan], run, uri=cluster.mlflow, say=_note, look=lambda: states(run, jobs), halt=halt)


def _note(text: str) -> None:
    sys.stderr.write(f"MLflow: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
