"""Tell people once: who comes to an end first, a client that waits, one that watches or a last job, marks it; the others are silent.

RUN_ROOT/sweeps/<sweep>/told/<event>-<digest>   what was said; the digest is of what it is about
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterable, Mapping

from jobs.paths import RunPaths
from jobs.spec import State
from orchestrator.console import clock
from orchestrator.ledger import JobStatus
from orchestrator.model import ClusterConfig, Plan
from orchestrator.notify.channels import send
from orchestrator.standing import troubles
from orchestrator.status import status_of

END, FAILURE, BUDGET = "end", "failure", "budget"
_LONGEST = 500


def tell(run: RunPaths, cluster: ClusterConfig, sweep: str, event: str, about: Iterable[object], line: str) -> list[str]:
    """Send a line about an event, unless somebody has done so. Returns why it was not told, a sentence for each channel; raises nothing."""
    notify = cluster.notify
    if notify is None or event not in notify.on:
        return []
    digest = hashlib.sha256(repr(list(about)).encode()).hexdigest()[:16]
    mark = run.sweep(sweep).told / f"{event}-{digest}"
    line = " ".join(line.split())[:_LONGEST]
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        with mark.open("x", encoding="utf-8") as file:
            file.write(line + "\n")
    except FileExistsError:
        return []
    except OSError as error:
        return [f"nobody was told: {mark} cannot be written ({error.strerror})"]
    problems = send(notify, line)
    if problems:
        # Whoever comes to it next may have a network.
        with contextlib.suppress(OSError):
            mark.unlink()
    return problems


def tell_end(run: RunPaths, cluster: ClusterConfig, plan: Plan, states: Mapping[str, JobStatus], *, over_budget: str = "") -> list[str]:
    """Tell how a sweep ended, and of a budget that is used up."""
    about = sorted((job, str(status.state), status.attempt) for job, status in states.items())
    said: list[str] = []
    if over_budget:
        said += tell(run, cluster, plan.sweep, BUDGET, about, f"{plan.sweep}: {over_budget}")
    return said + tell(run, cluster, plan.sweep, END, about, ending(plan, states, cluster))


def tell_failure(run: RunPaths, cluster: ClusterConfig, plan: Plan, status: JobStatus) -> list[str]:
    """Tell of a job that failed."""
    trial = next((job.trial for job in plan.jobs if job.job_id == status.job_id), status.job_id[:12])
    said = f"{plan.sweep}: {trial} failed on {cluster.name}: {status.failure or 'ERROR'}" + (
        f", {status.message}" if status.message else ""
    )
    return tell(run, cluster, plan.sweep, FAILURE, (status.job_id, status.attempt), said)


def ending(plan: Plan, states: Mapping[str, JobStatus], cluster: ClusterConfig) -> str:
    """Say in one line how a sweep ended: `moco_lr: 140 of 144 done, 4 failed, in 3 h 12 min on site (login1); ...`."""
    status = status_of(plan, states)
    others = [
        f"{number:,} {str(state).lower()}" for state, number in sorted(status.counts.items()) if state is not State.SUCCEEDED and number
    ]
    times = [one.started for one in states.values() if one.started is not None]
    ends = [one.ended for one in states.values() if one.ended is not None]
    took = f", in {clock(max(ends) - min(times))}" if times and ends else ""
    why = troubles(status)
    first = f"; {why[0].strip()}" if why else ""
    counted = ", ".join([f"{status.done:,} of {status.total:,} done", *others])
    return f"{plan.sweep}: {counted}{took} on {cluster.name} ({socket.gethostname()}){first}"
