"""What `explain` says of one job: what it is, where it stands, why it waits or failed, why it would run again, and which code it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from jobs.catalog import installed_with
from jobs.paths import JobPaths
from jobs.spec import SHORT_ID, JobSpec, Json, State, spec_to_json
from orchestrator import failed_nodes, scheduler
from orchestrator.console import out
from orchestrator.errors import Error
from orchestrator.identity import code_version, diff_specs
from orchestrator.intents import Intent
from orchestrator.ledger import JobStatus, states
from orchestrator.output import element_logs, submission_of, tail_of
from orchestrator.scheduler import waiting_json
from orchestrator.status import explain as in_words
from orchestrator.workspace import Workspace

_LINES = 12


def explain_job(workspace: Workspace, spec: JobSpec) -> dict[str, Json]:
    """Return what there is to say of one job."""
    answer = scheduler.ask(workspace.run, workspace.cluster)
    paths = workspace.run.job(spec.job_id)
    upstream = [item.job for item in spec.inputs]
    known = states(workspace.run, [spec.job_id, *upstream], polled=answer.sightings, details=True)
    status, intent = known[spec.job_id], submission_of(workspace, spec.job_id)
    file = _log(workspace, spec, status, intent)
    return {
        "job": spec.job_id,
        "what": f"{spec.stage} {spec.trial}",
        "sweep": spec.sweep,
        "state": str(status.state),
        "attempt": status.attempt,
        "failure": str(status.failure) if status.failure is not None else None,
        "why": in_words(status) or _never_started(status, intent),
        "waits_for": _waits_for(workspace, spec, {job: known[job] for job in upstream}),
        "waiting": _waiting(workspace, spec, status),
        "scheduler_silent": answer.silence,
        "where": _where(status, intent),
        "failed_nodes": list(dict.fromkeys([*failed_nodes.of_job(paths), *failed_nodes.seen(status)])),
        "folder": str(paths.folder),
        "log": str(file) if file is not None else None,
        "last_lines": tail_of(file, _LINES) if file is not None else [],
        "would_run_again": _would_run_again(workspace, spec),
        "trainer": f"{spec.trainer} version {spec.trainer_version}",
        "trainer_package": _package(paths, spec),
        "config": dict(spec.config),
        "code": _code(workspace, intent),
        "code_now": str(code_version()),
    }


def _never_started(status: JobStatus, intent: Intent | None) -> str:
    if status.state is State.NEW and intent is not None and intent.native is not None:
        return "it was handed over before, and never started; the next submit hands it over again"
    return ""


def _waits_for(workspace: Workspace, spec: JobSpec, upstream: Mapping[str, JobStatus]) -> list[str]:
    """Name the inputs that are not there yet."""
    left = [job for job, status in upstream.items() if status.state is not State.SUCCEEDED]
    try:
        trials = {one.job_id: f"{one.stage} {one.trial}" for one in workspace.stored_plan(spec.sweep).jobs} if left else {}
    except Error:
        trials = {}
    return [f"{job[:SHORT_ID]} {trials.get(job, '')} ({str(upstream[job].state).lower()})" for job in left]


def _waiting(workspace: Workspace, spec: JobSpec, status: JobStatus) -> dict[str, Json] | None:
    """Say why a job waits in a scheduler's queue, or would not start there; None where it does neither."""
    keeper = scheduler.of(workspace.cluster)
    if keeper is None or status.state.is_final or status.state is State.RUNNING:
        return None
    found = None
    if status.state is State.SUBMITTED and status.sighting is not None:
        found = waiting_json(keeper.explain_wait(status.sighting.reason, status.sighting.native))
    brake = keeper.brake(workspace.run, spec.sweep)
    if not brake:
        return found
    return (found or {"reason": "", "why": "", "then": ""}) | {"brake": brake}


def _where(status: JobStatus, intent: Intent | None) -> str:
    """Say where the scheduler has it: its number, and the node it runs or ran on."""
    seen, place = status.sighting, intent.places().get(status.job_id) if intent is not None else None
    native = seen.native if seen is not None else str(place or "")
    node = f" on {seen.node}" if seen is not None and seen.node else ""
    return f"{native}{node}" if native else ""


def _code(workspace: Workspace, intent: Intent | None) -> str | None:
    """Return the folder of the code that it runs, or ran last; None where jobs run the code that is installed."""
    name = intent.terms.get("code") if intent is not None else None
    return str(workspace.run.root / "code" / str(name)) if name else None


def _package(paths: JobPaths, spec: JobSpec) -> str:
    """Return name and version of the installed package that the trainer came from when it ran last, else from which it would come."""
    for attempt in reversed(paths.attempts()):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(json.loads(attempt.env.read_text(encoding="utf-8")).get("trainer_package", ""))
    return installed_with(spec.trainer)


def _log(workspace: Workspace, spec: JobSpec, status: JobStatus, intent: Intent | None) -> Path | None:
    """Return the file whose last lines tell why a job has no result: its own, else what its allocation printed."""
    if status.state in (State.FAILED, State.INTERRUPTED) and status.attempt:
        own = workspace.run.job(spec.job_id).attempt(status.attempt).stdout
        if own.exists() and own.stat().st_size:
            return own
    elif status.state is not State.NEW or intent is None:
        return None
    return next((file for file in reversed(element_logs(workspace, spec)) if file.stat().st_size), None)


def _would_run_again(workspace: Workspace, spec: JobSpec) -> list[str]:
    """Say what differs between the job and what its sweep file asks for now under the same labels; empty when nothing does."""
    stored = workspace.stored_plan(spec.sweep)
    if not stored.file or not Path(stored.file).exists():
        return []
    now = workspace.plan(Path(stored.file))
    for job in now.jobs:
        if (job.phase, job.stage, dict(job.labels)) == (spec.phase, spec.stage, dict(spec.labels)) and job.job_id != spec.job_id:
            return diff_specs(spec_to_json(spec), job)
    return []


def print_explanation(told: Mapping[str, Json]) -> None:
    """Print what there is to say of one job."""
    console = out()
    first, *lines = explanation_lines(told)
    console.print(first, style="bold", markup=False)
    for line in lines:
        console.print(line, markup=False)


def explanation_lines(told: Mapping[str, Json]) -> list[str]:
    """Return what there is to say of one job, line by line, its name first."""
    kind = f" [{told['failure']}]" if told["failure"] else ""
    why = f": {told['why']}" if told["why"] else ""
    lines = [
        f"{told['job'][:SHORT_ID]}  {told['what']}  of sweep '{told['sweep']}'",
        f"state: {str(told['state']).lower()}, attempt {told['attempt']}{kind}{why}",
    ]
    lines += [f"scheduler: {told['where']}"] if told["where"] else []
    failed = ", ".join(told["failed_nodes"])
    lines += [f"nodes that failed under it: {failed} (left out where others can take it)"] if failed else []
    lines += _waiting_lines(told["waiting"])
    lines += [f"waits for {line}" for line in told["waits_for"]]
    lines += [f"files only: {told['scheduler_silent']}"] if told["scheduler_silent"] else []
    lines += [f"the sweep file now asks for another: {line}" for line in told["would_run_again"]]
    lines += [f"  | {line}" for line in told["last_lines"]]
    lines += [f"log: {told['log']}"] if told["log"] else []
    package = told["trainer_package"]
    lines += [f"trainer: {told['trainer']}" + (f", of the installed package {package}, which is in no copy of the code" if package else "")]
    lines += ["config: " + ", ".join(f"{key}={value}" for key, value in sorted(told["config"].items()))]
    lines += [f"code: {told['code']}"] if told["code"] else []
    return [*lines, f"files: {told['folder']}"]


def _waiting_lines(waiting: Mapping[str, Json] | None) -> list[str]:
    if waiting is None:
        return []
    lines = [f"it does not start: {waiting['brake']}"] if waiting.get("brake") else []
    if waiting["why"]:
        lines.append(f"pending: {waiting['why']} [{waiting['reason']}]")
    if waiting["then"]:
        lines.append(f"what helps: {waiting['then']}")
    return lines
