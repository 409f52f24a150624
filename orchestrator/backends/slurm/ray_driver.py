"""The experiment of a Ray allocation: `python -m orchestrator.backends.slurm.ray_driver INTENT MEETING NODES`, on its first node."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from jobs.paths import RunPaths
from jobs.signals import EXIT_STOPPED
from jobs.spec import State
from orchestrator import intents, ledger
from orchestrator.backends.base import Halt, Notice, Queued, Session, Submission
from orchestrator.backends.ray import RayTune
from orchestrator.backends.ray_own import Joined
from orchestrator.intents import Intent
from orchestrator.model import ClusterConfig
from orchestrator.plans import read_plan
from orchestrator.submit import halting


def main(arguments: list[str]) -> int:
    """Run what is left of a submission in the Ray that the allocation started. Returns 0, or `EXIT_STOPPED` when it was asked to save."""
    intent_file, meeting, nodes = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    run = RunPaths(intent_file.parents[1])
    intent = intents.read(run, intent_file.stem)
    if intent is None:
        return 0
    where = json.loads(meeting.read_text(encoding="utf-8"))
    joined = Joined(address=where["address"], token=where["token"], folder=intents.folder(run, intent.sid), nodes=nodes)
    halt = Halt()
    with halting(halt):
        jobs = _left(run, intent)
        cluster = _whole(run, intent, nodes)
        submission = Submission(backend=intent.backend, sweep=intent.sweep, jobs=jobs, text="")
        session = Session(run=run, intent=intent, notify=_tell, halt=halt)
        RayTune(cluster, joined).submit(submission, session)
    return EXIT_STOPPED if halt.wanted else 0


def _left(run: RunPaths, intent: Intent) -> tuple[Queued, ...]:
    """Return the jobs of a submission that have no result yet, each with the attempt that is next."""
    specs = read_plan(run.sweep(intent.sweep).plan).by_id()
    known = ledger.states(run, intent.jobs, ignoring=intent.sid)
    # What ended before this submission was recorded is why it was submitted; what ended since is settled.
    left = [
        job
        for job, first in intent.jobs.items()
        if job in specs and known[job].state is not State.SUCCEEDED and not (known[job].state.is_final and known[job].attempt >= first)
    ]
    return tuple(
        Queued(
            spec=replace(specs[job], resources=specs[job].resources),
            attempt=max(known[job].next_attempt, intent.jobs[job]),
            resources=specs[job].resources,
        )
        for job in left
    )


def _whole(run: RunPaths, intent: Intent, nodes: int) -> ClusterConfig:
    """Return the allocation as the machine that jobs share."""
    cpus, gpus = int(intent.terms["node_cpus"]) * nodes, int(intent.terms["node_gpus"]) * nodes
    return ClusterConfig(name=intent.backend, backend="ray", run_root=run.root, made_root=run.root, cpus=cpus, gpus=gpus)


def _tell(notice: Notice) -> None:
    if notice.message:
        sys.stderr.write(f"{notice.kind}: {notice.message}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
