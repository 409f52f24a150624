"""Run jobs one after the other in this process: for debugging, and for machines where nothing else runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from jobs.paths import RunPaths
from jobs.signals import EXIT_STOPPED
from orchestrator.backends import base
from orchestrator.backends.base import Capabilities, Notice, Queued, Session, Submission
from orchestrator.execution.attempt import run_attempt
from orchestrator.execution.board import LOOK_EVERY, board_of
from orchestrator.execution.watch import Watch
from orchestrator.intents import Held, Intent, ask_to_cancel
from orchestrator.model import ClusterConfig
from orchestrator.sightings import Sighting


def make(cluster: ClusterConfig) -> Inline:
    """Make the backend for a cluster config."""
    return Inline(cluster)


class Inline:
    """One job at a time, in the order of the plan."""

    name = "inline"
    capabilities = Capabilities()

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster

    def render(self, sweep: str, jobs: Sequence[Queued]) -> Submission:
        """Say what would run, in order. Raises BackendError for a job that asks for more than the machine has."""
        base.refuse_oversized(
            jobs, cpus=base.machine_cpus(self._cluster), gpus=base.machine_gpus(self._cluster), cluster=self._cluster.name
        )
        text = base.listing(sweep, jobs, "one after the other in this process")
        return Submission(backend=self.name, sweep=sweep, jobs=tuple(jobs), text=text)

    def submit(self, submission: Submission, session: Session) -> frozenset[str]:
        """Run every job whose inputs are done until none is left, or a person wants to stop. Returns the jobs it gave up on."""
        with Watch(session) as watch:
            board = board_of(submission, session, watch)
            while not board.finished:
                job = board.take()
                if job is None:
                    time.sleep(LOOK_EVERY / 2)
                else:
                    self._run(job, session, watch)
                if session.halt.wanted:
                    board.abandon()
                if job is not None:
                    board.give_back(job.spec.job_id)
            return frozenset(board.gave_up)

    def _run(self, job: Queued, session: Session, watch: Watch) -> None:
        job_id = job.spec.job_id
        session.notify(Notice(kind="started", job_id=job_id))
        watch.started(job_id, job.attempt)
        try:
            code = run_attempt(session.run.job(job_id).job, job.attempt, session.runner)
        finally:
            watch.ended(job_id)
        if code == EXIT_STOPPED and job_id not in watch.cancelled():
            # The signal was for this process, and the job's handler got it first.
            session.halt.want()

    def poll(self, run: RunPaths, intents: Sequence[Intent]) -> Mapping[str, Sighting] | None:
        """Return None: the files say it all."""
        return None

    def recover(self, run: RunPaths, intents: Sequence[Held]) -> None:
        """Do nothing: what died with its client is seen by its process."""

    def cancel(self, run: RunPaths, intent: Intent, jobs: Sequence[str]) -> None:
        """Ask the process that runs a submission to cancel jobs of it."""
        ask_to_cancel(run, intent.sid, jobs)
