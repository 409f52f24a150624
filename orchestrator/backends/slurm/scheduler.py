"""What people ask Slurm besides running jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.paths import RunPaths
from orchestrator import intents, stop_file
from orchestrator.backends import base
from orchestrator.backends.base import Queued
from orchestrator.backends.slurm import efficiency, examine, last, snapshot, usage
from orchestrator.backends.slurm.forecast import forecast
from orchestrator.backends.slurm.pending import waiting_for
from orchestrator.checks import Check
from orchestrator.errors import BackendError
from orchestrator.intents import Intent
from orchestrator.model import ClusterConfig, Plan
from orchestrator.scheduler import Efficiency, Forecast, Waiting

_BY_METERS = "the GPU-hours are by the jobs' own meters"


def make(cluster: ClusterConfig) -> SlurmScheduler:
    """Return who answers for a cluster's Slurm."""
    return SlurmScheduler(cluster)


class SlurmScheduler:
    """Slurm, as people ask it."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster

    def explain_wait(self, reason: str, native: str = "") -> Waiting:
        """Say in words why a job waits; a reason that is not known is shown as it is."""
        return waiting_for(reason, native)

    def brake(self, run: RunPaths, sweep: str) -> str:
        """Return what keeps jobs of a sweep from starting though Slurm would let them; empty when nothing does."""
        why = stop_file.reason(run, sweep)
        if why:
            return f"the sweep was stopped: {why}; put it right, then `orchestrate resume` lets it go on"
        return self.over_budget(run, sweep)

    def over_budget(self, run: RunPaths, sweep: str) -> str:
        """Say that the GPU-hours of a sweep are used up; empty when they are not."""
        budget = self._cluster.limits.gpu_hours
        return "" if budget is None else usage.used_up(usage.gpu_hours(run, sweep), budget)

    def tell_at_the_end(self, run: RunPaths, sweep: str) -> str:
        """Queue a job behind all others that tells people, where nodes reach them and no keeper does it. Returns who tells."""
        notify = self._cluster.notify
        if notify is None or not notify.nodes:
            return ""
        if self._cluster.slurm.keeper:
            return "the keeper job"
        number = last.submit(run, sweep, self._cluster, snapshot.take(run, self._cluster))
        return f"job {number}, when all others have ended" if number else ""

    def outputs(self, run: RunPaths, intent: Intent, job: str) -> list[Path]:
        """Return the files that hold what the allocations of a job printed; a requeue adds to the same file."""
        place = intent.places().get(job)
        folder = intents.folder(run, intent.sid)
        return sorted(folder.glob(f"{place}_*_log.out")) if place is not None else []

    def forecast(self, sweep: str, jobs: Sequence[Queued]) -> Forecast:
        """Ask when jobs would start if they were submitted now. Raises BackendError for one that no partition can hold."""
        return forecast(base.load(self._cluster).render(sweep, jobs).parts)

    def who_acts(self) -> tuple[tuple[str, str], ...]:
        """Return who does what when the client has gone: who, and what they do."""
        site, budget = self._cluster.slurm, self._cluster.limits.gpu_hours
        brakes = [f"stop the sweep when {site.stop_after} of them fail at one place"] if site.stop_after else []
        brakes += [f"stop when its {budget:g} GPU-hours are used"] if budget is not None else []
        return (
            ("Slurm", "starts them, and starts them again after preemption, a time limit or a lost node"),
            (
                "the jobs",
                ", ".join([f"save {site.signal_lead} s before their time limit, start only when their inputs are there", *brakes]),
            ),
            (
                "a keeper job" if site.keeper else "the next submit or resume",
                "goes on with what was killed or lost, and with what ran out of memory or did not fit the queue",
            ),
        )

    def gpu_hours(self, run: RunPaths, sweep: str) -> float:
        """Return the GPU-hours that a sweep's allocations have used so far, by their own meters."""
        return usage.gpu_hours(run, sweep)

    def efficiency(self, run: RunPaths, plan: Plan) -> Efficiency:
        """Compare what the allocations of a plan asked for with what they used, in one call of sacct."""
        metered = usage.gpu_hours(run, plan.sweep)
        if not self._cluster.slurm.accounting:
            note = (
                "this cluster has no accounting: what was asked is not set against what was used, and GPU-hours are by the jobs' own meters"
            )
            return Efficiency(gpu_hours=metered, note=note)
        found = [*intents.ended_intents(run), *(held.intent for held in intents.open_intents(run))]
        try:
            return efficiency.efficiency(plan, found)
        except BackendError as error:
            return Efficiency(gpu_hours=metered, note=f"{error}; {_BY_METERS}")

    def examine(self, *, deep: bool) -> Iterator[Check]:
        """Look at the site; `deep` also sends a job of a minute."""
        return examine.examine(self._cluster, deep=deep)
