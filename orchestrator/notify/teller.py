"""Who tells people while a client follows a sweep: beside the work and never in its way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from jobs.paths import RunPaths
from orchestrator import scheduler
from orchestrator.ledger import JobStatus, states
from orchestrator.model import ClusterConfig, Plan
from orchestrator.notify.channels import PATIENCE
from orchestrator.notify.told import tell_end, tell_failure


class Teller:
    """Tells of the first failure that a client sees, and of the end; why somebody was not told is a line, and nothing else."""

    def __init__(self, plan: Plan, run: RunPaths, cluster: ClusterConfig, say: Callable[[str], None]) -> None:
        self._plan, self._run, self._cluster, self._say = plan, run, cluster, say
        self._first: threading.Thread | None = None
        self._problems: list[str] = []

    def failed(self, job_id: str) -> None:
        """Tell of a failure unless one was told before; the next ones stand in the line at the end."""
        if self._cluster.notify is None or self._first is not None:
            return
        self._first = threading.Thread(target=self._tell_failure, args=(job_id,), daemon=True)
        self._first.start()

    def _tell_failure(self, job_id: str) -> None:
        found = states(self._run, [job_id])[job_id]
        self._problems += tell_failure(self._run, self._cluster, self._plan, found)

    def ended(self, known: Mapping[str, JobStatus]) -> None:
        """Tell how it ended."""
        if self._cluster.notify is None:
            return
        if self._first is not None:
            self._first.join(2 * PATIENCE)
        self._problems += tell_end(
            self._run, self._cluster, self._plan, known, over_budget=over_budget(self._run, self._cluster, self._plan)
        )
        for problem in dict.fromkeys(self._problems):
            self._say(f"nobody was told: {problem}")


def over_budget(run: RunPaths, cluster: ClusterConfig, plan: Plan) -> str:
    """Say that the budget of a sweep is used up; empty when it is not, or nobody counts."""
    keeper = scheduler.of(cluster)
    return "" if keeper is None else keeper.over_budget(run, plan.sweep)
