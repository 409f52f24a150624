"""What `submit` does around a submission: made data, MLflow's database, the live view, the mirror and the report afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jobs.spec import Json, State
from orchestrator import scheduler, stop_file, tracking
from orchestrator.backends import base
from orchestrator.backends.base import Notice
from orchestrator.console import SAMPLE_BANNER, Following, clock, out
from orchestrator.datasets import make_data
from orchestrator.decide import Request, Why
from orchestrator.errors import BackendError, Error, ReportError, TrackingError
from orchestrator.exit_codes import EXIT_DONE
from orchestrator.identity import code_version
from orchestrator.ledger import JobStatus, states
from orchestrator.model import Plan
from orchestrator.notify.teller import Teller
from orchestrator.searches import contests_of
from orchestrator.standing import print_efficiency, troubles
from orchestrator.status import status_of
from orchestrator.submit import Summary, preview, submit, within_limits
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.report.values import Report


def dry_run(plan: Plan, workspace: Workspace, *, prune: bool = False) -> str:
    """Return exactly what would be submitted."""
    backend = base.load(workspace.cluster)
    return preview(plan, workspace.run, backend, within_limits(None, workspace.cluster, backend), prune=prune).submission.text


def run_plan(
    plan: Plan,
    workspace: Workspace,
    sweep: Path,
    *,
    wait: bool,
    prune: bool = False,
    request: Request | None = None,
    quiet: bool = False,
) -> Summary:
    """Submit a plan, follow it, mirror it and report on it."""
    backend = base.load(workspace.cluster)
    _refuse_unresolved(plan, workspace)
    if request is None or not request.resume:
        stop_file.refuse(workspace.run, plan.sweep)
    console = out(quiet=quiet)
    _announce(plan, workspace, console)
    if not backend.capabilities.searches:
        _say_in_full(plan, workspace, console)
    make_data(plan, workspace, say=lambda text: console.print(text, markup=False))
    _prepare_mirror(plan, workspace, console)
    before = states(workspace.run, [job.job_id for job in plan.jobs], polled=workspace.sightings())
    teller = Teller(plan, workspace.run, workspace.cluster, lambda text: console.print(text, markup=False))
    started = time.monotonic()
    done = {job for job, status in before.items() if status.state is State.SUCCEEDED}
    with Following(console, plan.jobs, done) as following:
        summary = submit(
            plan,
            workspace.run,
            workspace.cluster,
            backend,
            machine=workspace.machine(),
            request=request,
            prune=prune,
            wait=wait,
            notify=lambda notice: _show(notice, following, teller),
        )
    if backend.capabilities.detaches and not wait:
        _leave(plan, workspace, sweep, summary, console)
    else:
        _conclude(plan, workspace, sweep, summary, console, time.monotonic() - started)
        if summary.submitted and not summary.halted:
            teller.ended(summary.states)
    return summary


def detach(plan: Plan, workspace: Workspace, repeats: str | None = None) -> Path:
    """Start the same submission in a process of its own that outlives this terminal, and return its log."""
    log = workspace.run.sweep(plan.sweep).folder / "submit.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "orchestrator", "submit", plan.file, "--wait", "--cluster", workspace.cluster_argument]
    command += ["--sample"] if workspace.sample else []
    command += ["--repeats", repeats] if repeats is not None else []
    with log.open("ab") as file:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    return log


def sync_plan(plan: Plan, workspace: Workspace) -> tracking.Synced:
    """Bring MLflow up to what the files of a plan say."""
    return tracking.sync(plan, workspace.run, uri=workspace.cluster.mlflow, code=str(code_version()))


def follow_plans(plans: Sequence[Plan], workspace: Workspace) -> int:
    """Bring MLflow up to what the files of plans say until nothing of them is queued or running. Returns the exit code."""
    from orchestrator.mirror.follow import follow

    halt, jobs = threading.Event(), [job.job_id for plan in plans for job in plan.jobs]

    def look() -> Mapping[str, JobStatus]:
        return states(workspace.run, jobs, polled=scheduler.ask(workspace.run, workspace.cluster).sightings)

    try:
        return follow(plans, workspace.run, uri=workspace.cluster.mlflow, code=str(code_version()), say=typer.echo, look=look, halt=halt)
    except KeyboardInterrupt:
        return EXIT_DONE


def write_report(plan: Plan, workspace: Workspace, *, tells_missing: bool = True) -> tuple[Path, tuple[str, ...]]:
    """Write a plan's report and return its folder, its verdict sentences and what to run next.

    `tells_missing` is False for who has just said which jobs are left. Raises ReportError when there is nothing to report.
    """
    from orchestrator.report.analysis import build
    from orchestrator.report.provenance import provenance
    from orchestrator.report.render import write

    built = build(plan, workspace.run)
    page = write(built, workspace.run.sweep(plan.sweep).report, provenance(plan, workspace.run), run=workspace.run)
    missing = _missing(built, plan, workspace) if tells_missing else ()
    return page.parent, (*_sentences(built), *missing, *_worth_adding(built, plan, workspace))


def _missing(built: Report, plan: Plan, workspace: Workspace) -> Iterator[str]:
    """Say what to type for runs that are missing."""
    sweep = Path(plan.file or plan.sweep)
    if built.n_present < built.n_planned:
        yield f"{built.n_planned - built.n_present} of {built.n_planned} evaluations are missing: {workspace.command('submit', sweep)}"
        failed = [status for status in states(workspace.run, [job.job_id for job in plan.jobs]).values() if status.state is State.FAILED]
        if failed:
            yield f"{len(failed)} jobs failed: {workspace.command('resume', sweep)}"


def _worth_adding(built: Report, plan: Plan, workspace: Workspace) -> Iterator[str]:
    """Say what to type for draws that are worth adding."""
    sweep = Path(plan.file or plan.sweep)
    if built.study.more_draws:
        yield f"{built.study.more_draws.why}: {workspace.command('submit', sweep)} --repeats {built.study.more_draws.option}"


def write_report_of_files(paths: Sequence[Path], folder: Path, asked: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """Write the report of anybody's predictions and return its folder and its verdict sentences.

    `asked` holds fields of `Asked`. Raises ReportError on files that cannot be trusted.
    """
    from orchestrator.report.analysis import analyse
    from orchestrator.report.files.inputs import Asked, inputs_of_files
    from orchestrator.report.provenance import provenance_of_files
    from orchestrator.report.render import write

    built = analyse(inputs_of_files(paths, Asked(**asked)))
    page = write(built, folder, provenance_of_files(paths))
    return page.parent, _sentences(built)


def _sentences(report: Report) -> tuple[str, ...]:
    return tuple(f"{verdict.claim} {verdict.evidence}" for verdict in report.verdicts)


def serve_ui(workspace: Workspace, port: int) -> int:
    """Serve the MLflow UI on loopback until it is interrupted, and say where each sweep is."""
    from orchestrator.mirror import ui

    return ui.show(ui.serve(workspace.run, uri=workspace.cluster.mlflow, port=port), typer.echo)


def _announce(plan: Plan, workspace: Workspace, console: Console) -> None:
    cluster = workspace.cluster
    console.print(f"{plan.file or plan.sweep}: {len(plan.jobs)} jobs on '{cluster.name}' ({cluster.backend})", markup=False)
    if plan.sample:
        console.print(SAMPLE_BANNER, style="bold")
    elif plan.made_data:
        console.print("made data: the numbers say nothing about patients", style="bold")


def _say_in_full(plan: Plan, workspace: Workspace, console: Console) -> None:
    """Say which searches run every sample, because this backend stops none."""
    for phase in dict.fromkeys(contest.phase for contest in contests_of(plan.jobs).values()):
        said = f"{phase}: backend '{workspace.cluster.backend}' stops nothing, so every sample of its search runs in full"
        console.print(said, markup=False)


def _refuse_unresolved(plan: Plan, workspace: Workspace) -> None:
    """Refuse a plan whose ids are provisional, with the first thing that is out of reach."""
    left = [job for job in plan.jobs if not job.resolved]
    if left:
        reason = workspace.resolver.first_unresolved()
        raise Error(f"{len(left)} of {len(plan.jobs)} jobs cannot be submitted: {reason}")


def _show(notice: Notice, following: Following, teller: Teller) -> None:
    if notice.kind == "started" and notice.job_id:
        following.started(notice.job_id)
    elif notice.kind == "ended" and notice.job_id:
        following.ended(notice.job_id, failed=notice.state is State.FAILED, message=notice.message)
        if notice.state is State.FAILED:
            teller.failed(notice.job_id)
    elif notice.kind in ("again", "note") and notice.message:
        following.note(notice.message)


def _prepare_mirror(plan: Plan, workspace: Workspace, console: Console) -> None:
    """Create MLflow's database before jobs start. Without it they run all the same: it is a mirror, and the end says what to do."""
    try:
        tracking.prepare(workspace.run, tracking.experiment_name(plan), uri=workspace.cluster.mlflow)
    except TrackingError:
        console.print("MLflow cannot be used; the jobs run without it", markup=False)


def _mirror(plan: Plan, workspace: Workspace, console: Console) -> None:
    try:
        synced = sync_plan(plan, workspace)
    except TrackingError as error:
        console.print(f"MLflow: {error}", markup=False, style="red")
        return
    console.print(f"MLflow: {synced.runs} runs in experiment '{tracking.experiment_name(plan)}'; look with `orchestrate ui`", markup=False)


def _conclude(plan: Plan, workspace: Workspace, sweep: Path, summary: Summary, console: Console, seconds: float) -> None:
    """Say how it ended, write the report when anything was evaluated, mirror the files, and say what to type next."""
    counts = ", ".join(f"{number} {str(state).lower()}" for state, number in sorted(summary.counts.items()))
    jobs = "1 job" if summary.submitted == 1 else f"{summary.submitted} jobs"
    ran = f"{jobs} run in {clock(seconds)}" if summary.submitted else "nothing left to run"
    console.print(f"{plan.sweep}: {ran}; {counts}", markup=False)
    _list_failures(plan, summary, console)
    try:
        folder, sentences = write_report(plan, workspace, tells_missing=False)
    except ReportError as error:
        console.print(f"no report yet: {error}", markup=False)
    else:
        for sentence in sentences:
            console.print(sentence, markup=False)
        console.print(f"report: {folder / 'report.html'}", markup=False)
    _mirror(plan, workspace, console)
    _tell_efficiency(plan, workspace, console)
    if summary.halted:
        console.print(f"stopped; the same command goes on: {workspace.command('submit', sweep)}", markup=False)
    elif {Why.FAILED, Why.SWEEP_STOPPED} & set(summary.kept.values()):
        console.print(f"when that is put right: {workspace.command('resume', sweep)}", markup=False)
    elif Why.NO_ROOM in summary.kept.values():
        console.print(f"when there is room: {workspace.command('submit', sweep)}", markup=False)


def _leave(plan: Plan, workspace: Workspace, sweep: Path, summary: Summary, console: Console) -> None:
    """Say what was handed over, who does what from here, what remains for whom, and what to type to look."""
    jobs = "1 job" if summary.submitted == 1 else f"{summary.submitted:,} jobs"
    counts = ", ".join(f"{number:,} {str(state).lower()}" for state, number in sorted(summary.counts.items()))
    console.print(f"{plan.sweep}: {jobs} handed over; {counts}", markup=False)
    _list_failures(plan, summary, console)
    keeper = scheduler.of(workspace.cluster)
    if keeper is not None and any(status.is_live for status in summary.states.values()):
        console.print("you may log out:", markup=False)
        for who, what in keeper.who_acts():
            console.print(f"  {who}: {what}", markup=False)
        if workspace.cluster.notify is not None:
            console.print(f"  {_who_tells(plan, workspace, keeper)}", markup=False)
    left = set(summary.kept.values())
    for why, verb in ((Why.FAILED, "resume"), (Why.CANCELLED, "resume"), (Why.QUEUE_FULL, "submit"), (Why.COMING, "submit")):
        if why in left:
            console.print(f"for you: {why}: {workspace.command(verb, sweep)}", markup=False)
    name = Path(plan.sweep)
    for what, verb, on in (("look", "status", name), ("follow", "watch", name), ("when it is done", "report", sweep)):
        console.print(f"{what}: {workspace.command(verb, on)}", markup=False)


def _who_tells(plan: Plan, workspace: Workspace, keeper: scheduler.Scheduler) -> str:
    """Say who tells people how it ended, now that nobody waits."""
    try:
        teller = keeper.tell_at_the_end(workspace.run, plan.sweep)
    except BackendError as error:
        return f"nobody tells you how it ends: {error}"
    if teller:
        return f"{teller}: tells you how it ended"
    told = "" if workspace.cluster.notify and workspace.cluster.notify.nodes else ", and `notify: {nodes: true}` a last job"
    return f"`{workspace.command('watch', Path(plan.sweep))}`: tells you how it ended while it is open{told}"


def _list_failures(plan: Plan, summary: Summary, console: Console) -> None:
    for line in troubles(status_of(plan, summary.states)):
        console.print(line, markup=False, style="red")
    left: Sequence[tuple[str, int]] = Counter(str(why) for why in summary.kept.values() if why is not Why.IN_FLIGHT).most_common()
    for why, number in left:
        console.print(f"left: {number} {'job' if number == 1 else 'jobs'} ({why})", markup=False)


def _tell_efficiency(plan: Plan, workspace: Workspace, console: Console) -> None:
    """Say what was used of what was asked for, where a scheduler knows."""
    keeper = scheduler.of(workspace.cluster)
    if keeper is not None:
        print_efficiency(keeper.efficiency(workspace.run, plan), console)


def summary_json(summary: Summary) -> dict[str, Json]:
    """Return how a submission ended, for machines."""
    return {
        "sweep": summary.sweep,
        "submitted": summary.submitted,
        "counts": {str(state): number for state, number in sorted(summary.counts.items())},
        "failed": sorted(status.job_id for status in summary.failed),
        "halted": summary.halted,
        "exit_code": summary.exit_code,
    }
