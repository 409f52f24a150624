"""The commands that look after what was submitted: status, watch, logs, cancel, explain."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.arguments import AsJson, Cluster, JobPrefix, MaybeSweep, Sample, open_workspace, print_json

NOTHING = "nothing was submitted to {root} yet; type `orchestrate submit sweeps/quickstart.yaml`"


def status(
    sweep: MaybeSweep = None,
    cluster: Cluster = None,
    sample: Sample = False,
    efficiency: Annotated[bool, typer.Option("--efficiency", help="Also what was used of what was asked for (asks accounting).")] = False,
    as_json: AsJson = False,
) -> None:
    """Show where every job stands, why jobs wait, and what failed, in one table.

    Example: orchestrate status quickstart --json
    """
    from orchestrator.standing import print_standings, standings, standings_json

    workspace = open_workspace(cluster, sample=sample)
    found = standings(workspace, sweep, efficiency=efficiency)
    if as_json:
        print_json(standings_json(found))
    elif not found.sweeps:
        typer.echo(NOTHING.format(root=workspace.run.root))
    else:
        print_standings(found)


def watch(
    sweep: MaybeSweep = None,
    cluster: Cluster = None,
    sample: Sample = False,
    once: Annotated[bool, typer.Option("--once", help="Show one frame and end.")] = False,
) -> None:
    """Follow sweeps live: jobs with their curves, failures, why others wait, logs; cancel and retry. q or Ctrl-C ends it; jobs go on.

    Example: orchestrate watch quickstart
    """
    from orchestrator.watching import watch as follow

    workspace = open_workspace(cluster, sample=sample)
    plans = [workspace.stored_plan(sweep)] if sweep else workspace.stored_plans()
    if not plans:
        typer.echo(NOTHING.format(root=workspace.run.root))
        return
    follow(plans, workspace, once=once)


def logs(
    job: JobPrefix,
    cluster: Cluster = None,
    sample: Sample = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it grows, through requeues, until the job has ended.")] = False,
) -> None:
    """Print the last attempt's output.

    Example: orchestrate logs 3fa9c1 -f
    """
    from orchestrator.output import Follower, log_of

    workspace = open_workspace(cluster, sample=sample)
    spec = workspace.find_job(job)
    if not follow:
        sys.stdout.write(log_of(workspace, spec).read_text(encoding="utf-8", errors="replace"))
        return
    for piece in Follower(workspace, spec, say=lambda text: typer.echo(text, err=True)).text():
        sys.stdout.write(piece)
        sys.stdout.flush()


def cancel(
    what: Annotated[str, typer.Argument(metavar="SWEEP|JOB", help="A sweep file or name, or a job's id or how it starts.")],
    cluster: Cluster = None,
    sample: Sample = False,
) -> None:
    """Cancel a sweep's jobs, or one job; a running job saves first.

    Example: orchestrate cancel quickstart
    """
    from orchestrator.submit import cancel as call_off

    workspace = open_workspace(cluster, sample=sample)
    is_sweep = what.endswith((".yaml", ".yml")) or workspace.run.sweep(what).plan.exists()
    wanted = [one.job_id for one in workspace.stored_plan(what).jobs] if is_sweep else [workspace.find_job(what).job_id]
    left = call_off(workspace.run, workspace.cluster, wanted)
    typer.echo(
        f"asked to cancel what is queued or running of {what}" + (f"; nobody could be asked for {len(left)} of them" if left else "")
    )


def explain(job: JobPrefix, cluster: Cluster = None, sample: Sample = False, as_json: AsJson = False) -> None:
    """Say what a job is, where it stands, why it waits, why it failed, why it would run again, and which code it runs.

    Example: orchestrate explain 3fa9c1
    """
    from orchestrator.explanation import explain_job, print_explanation

    workspace = open_workspace(cluster, sample=sample)
    told = explain_job(workspace, workspace.find_job(job))
    if as_json:
        print_json(told)
    else:
        print_explanation(told)
