"""The command line: parses, calls, prints. One small function a command; what they share is in `workspace` and `console`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from jobs.paths import naming
from jobs.spec import FailureKind
from orchestrator import __version__, operating_cli, report_cli
from orchestrator.arguments import AsJson, Cluster, MaybeSweep, Repeats, Sample, SweepFile, open_workspace, print_json
from orchestrator.data_cli import data_app
from orchestrator.errors import Error
from orchestrator.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_OURS, EXIT_PERSON
from orchestrator.model import MANY_JOBS, Plan
from orchestrator.system_faults import in_words
from orchestrator.weights_cli import weights_app


class Commands(TyperGroup):
    """The commands, each of which Ctrl-C may end at any moment."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Ctrl-C where no command has made arrangements for it leaves nothing half done: files are renamed into place."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("stopped by Ctrl-C; what was done is kept, and the same command goes on\n")
            raise typer.Exit(EXIT_FAILED) from None


app = typer.Typer(
    name="orchestrate",
    cls=Commands,
    help="Write one YAML, get an honest chest X-ray study: plan, run on Ray or Slurm, MLflow, confidence intervals.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")


@app.command()
def plan(sweep: SweepFile, cluster: Cluster = None, sample: Sample = False, repeats: Repeats = None, as_json: AsJson = False) -> None:
    """Show what would run: new, reused, changed and why, gone, and what it would cost.

    Example: orchestrate plan sweeps/moco_lr.yaml
    """
    from orchestrator.overview import overview, overview_json, print_overview

    workspace = open_workspace(cluster, sample=sample)
    planned = workspace.plan(sweep, repeats=repeats)
    view = overview(planned, workspace)
    if as_json:
        print_json(overview_json(view))
    else:
        print_overview(view, sweep)


@app.command()
def submit(
    sweep: SweepFile,
    cluster: Cluster = None,
    sample: Sample = False,
    repeats: Repeats = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to the end (ray and inline always do).")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print exactly what would be submitted, and submit nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Cancel jobs that the edited sweep no longer has.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background with a log.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=f"Do not ask, even for more than {MANY_JOBS:,} jobs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit what is missing. Safe to repeat: nothing that is done runs again, what was interrupted goes on.

    Example: orchestrate submit sweeps/quickstart.yaml --wait
    """
    from orchestrator.running import detach as leave
    from orchestrator.running import dry_run as show
    from orchestrator.running import run_plan, summary_json

    workspace = open_workspace(cluster, sample=sample)
    planned = workspace.plan(sweep, repeats=repeats)
    _refuse_many(planned, yes)
    if dry_run:
        sys.stdout.write(show(planned, workspace, prune=prune))
        return
    if detach:
        log = leave(planned, workspace, repeats)
        typer.echo(f"'{planned.sweep}' runs on in the background; follow it with `tail -f {log}` or `orchestrate status {planned.sweep}`")
        return
    with naming(workspace.run.root):
        summary = run_plan(planned, workspace, sweep, wait=wait, prune=prune, quiet=as_json)
    if as_json:
        print_json(summary_json(summary))
    raise typer.Exit(summary.exit_code)


@app.command()
def resume(
    sweep: SweepFile,
    cluster: Cluster = None,
    sample: Sample = False,
    failure: Annotated[
        list[FailureKind] | None, typer.Option("--failure", help="Of what failed, only what failed so; may be repeated.")
    ] = None,
    jobs: Annotated[list[str] | None, typer.Option("--jobs", help="Only these jobs (ids or prefixes); may be repeated.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to the end (ray and inline always do).")] = False,
) -> None:
    """Run failed, cancelled and lost jobs again, with what the policy table proposes, and what else of the sweep has not run.

    Example: orchestrate resume sweeps/quickstart.yaml --failure HOST_OOM
    """
    from orchestrator.decide import Request
    from orchestrator.running import run_plan

    workspace = open_workspace(cluster, sample=sample)
    planned = workspace.plan(sweep)
    only = frozenset(workspace.find_job(prefix).job_id for prefix in jobs) if jobs else None
    request = Request(resume=True, failures=frozenset(failure or ()), only=only)
    with naming(workspace.run.root):
        summary = run_plan(planned, workspace, sweep, wait=wait, request=request)
    raise typer.Exit(summary.exit_code)


for _command in (operating_cli.status, operating_cli.watch, operating_cli.logs, operating_cli.cancel, operating_cli.explain):
    app.command()(_command)


@app.command()
def sync(
    sweep: MaybeSweep = None,
    cluster: Cluster = None,
    sample: Sample = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until nothing is queued or running; Ctrl-C ends it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring MLflow up to what the files say. Run twice, it changes nothing.

    Example: orchestrate sync quickstart
    """
    from orchestrator.running import follow_plans, sync_plan

    workspace = open_workspace(cluster, sample=sample)
    plans = [workspace.stored_plan(sweep)] if sweep else workspace.stored_plans()
    if follow:
        raise typer.Exit(follow_plans(plans, workspace))
    done = {one.sweep: sync_plan(one, workspace) for one in plans}
    if as_json:
        print_json({name: {"runs": one.runs, "created": one.created, "updated": one.updated} for name, one in done.items()})
        return
    for name, one in done.items():
        typer.echo(f"{name}: {one.runs} runs in MLflow, {one.created} new, {one.updated} brought up to date")


app.command()(report_cli.report)


@app.command()
def ui(cluster: Cluster = None, sample: Sample = False, port: Annotated[int, typer.Option(help="The port on loopback.")] = 5000) -> None:
    """Open the MLflow UI on what was synced; on this machine only.

    Example: orchestrate ui --port 5001
    """
    from orchestrator.running import serve_ui

    raise typer.Exit(serve_ui(open_workspace(cluster, sample=sample), port))


@app.command()
def gc(
    cluster: Cluster = None,
    sample: Sample = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete what is listed.")] = False,
) -> None:
    """List what could be deleted, in bytes; delete only with --yes.

    Example: orchestrate gc
    """
    from orchestrator.garbage import delete, find

    workspace = open_workspace(cluster, sample=sample)
    found = find(workspace.run, workspace.stored_plans())
    for item in found:
        typer.echo(f"{item.size / 2**20:10.1f} MB  {item.why:<40}  {item.path}")
    total = sum(item.size for item in found) / 2**20
    if yes:
        delete(found)
    typer.echo(
        f"{total:10.1f} MB  {'deleted' if yes else 'could be deleted: type `orchestrate gc --yes`' if found else 'nothing to delete'}"
    )


@app.command()
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the cluster config is to be called, such as site.")],
    backend: Annotated[str | None, typer.Option(help="What runs the jobs: ray, slurm or inline.")] = None,
    run_root: Annotated[str | None, typer.Option(help="Where runs live; nodes must see it.")] = None,
    data_root: Annotated[str | None, typer.Option(help="Where data sets live, a folder each.")] = None,
    partition: Annotated[list[str] | None, typer.Option(help="A partition to use; may be repeated.")] = None,
    account: Annotated[str | None, typer.Option(help="The account that jobs are charged to.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, and write over a file that is there.")] = False,
) -> None:
    """Write cluster_configs/NAME.yaml from a few answers; on a login node the scheduler says what there is.

    Example: orchestrate init site --run-root /scratch/me/runs --yes
    """
    from orchestrator.first_config import Answers, config_path, make, write

    path = config_path(name)
    if path.exists() and not yes:
        write(path, "", overwrite=False)
    given = Answers(backend=backend, run_root=run_root, data_root=data_root, partitions=tuple(partition or ()), account=account)
    asks = sys.stdin.isatty() and not yes
    text = make(name, given, lambda question, default: typer.prompt(question, default=default) if asks else default)
    write(path, text, overwrite=yes)
    typer.echo(f"{text}written to {path}; check it: orchestrate doctor --cluster {name}")


@app.command()
def doctor(
    cluster: Cluster = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also send a job of a minute to a node and see what it finds there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check Python, libraries, GPU, data, disk and what runs the jobs: each line ok, or what to type.

    Example: orchestrate doctor --cluster local
    """
    from orchestrator.health import examine

    findings = examine(cluster, deep=deep)
    if as_json:
        print_json([{"what": one.what, "ok": one.ok, "text": one.text} for one in findings])
    else:
        for one in findings:
            typer.echo(f"{'ok ' if one.ok else '!! '} {one.what:<20} {one.text}")
    raise typer.Exit(EXIT_DONE if all(one.ok for one in findings) else EXIT_PERSON)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _refuse_many(planned: Plan, yes: bool) -> None:
    if len(planned.jobs) > MANY_JOBS and not yes:
        raise Error(f"{planned.file}: expands to {len(planned.jobs):,} jobs, more than {MANY_JOBS:,}: type --yes to submit them all")


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    """Turn what a person caused into one message and exit code 2; everything else keeps its traceback and is exit code 3."""
    try:
        yield
    except Error as error:
        _leave(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_DONE) from None
    except OSError as error:
        said = in_words(error)
        if said is None:
            raise
        _leave(said, EXIT_PERSON)


def _leave(message: str, code: int) -> NoReturn:
    sys.stderr.write(message.rstrip() + "\n")
    raise SystemExit(code)


def main() -> None:
    """Run the command line."""
    try:
        with _errors_as_sentences():
            app()
    except (SystemExit, KeyboardInterrupt):
        raise
    except Exception:
        import traceback

        traceback.print_exc()
        sys.stderr.write("\nThis is a fault of orchestrate, not of your sweep: please report it with the text above.\n")
        raise SystemExit(EXIT_OURS) from None
