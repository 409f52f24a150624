"""The command that writes a report, of a sweep or of anybody's predictions, and that compares texts with one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.arguments import AsJson, Cluster, Sample, open_workspace, print_json
from orchestrator.errors import Error
from orchestrator.exit_codes import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from orchestrator.workspace import Workspace

_FILE_OPTIONS = "With --predictions: "


def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SWEEP]", help="A sweep file, or the name of a submitted sweep; or more files."),
    ] = None,
    cluster: Cluster = None,
    sample: Sample = False,
    predictions: Annotated[
        list[Path] | None,
        typer.Option("--predictions", metavar="FILE", help="Predictions as CSV or parquet instead of a sweep; more files may follow."),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help=f"{_FILE_OPTIONS}the arm that the others are set against.")] = None,
    measure: Annotated[str | None, typer.Option(help=f"{_FILE_OPTIONS}the headline measure (auroc_macro, or dice).")] = None,
    confidence: Annotated[float | None, typer.Option(help=f"{_FILE_OPTIONS}the confidence level of intervals (0.95).")] = None,
    resample: Annotated[str | None, typer.Option(help=f"{_FILE_OPTIONS}what is resampled: patient, study or image (patient).")] = None,
    resamples: Annotated[int | None, typer.Option(help=f"{_FILE_OPTIONS}how many bootstrap resamples (2000).")] = None,
    as_published: Annotated[
        list[str] | None,
        typer.Option(
            "--as-published", metavar="STUDY", help=f"{_FILE_OPTIONS}what this study's own statistics say too (moco_cxr, ark, ...)."
        ),
    ] = None,
    scores: Annotated[str | None, typer.Option(help=f"{_FILE_OPTIONS}what a score is: logit or probability (told by its range).")] = None,
    subgroup: Annotated[
        list[str] | None, typer.Option("--subgroup", metavar="COLUMN", help=f"{_FILE_OPTIONS}a column that results are split by.")
    ] = None,
    title: Annotated[str | None, typer.Option(help=f"{_FILE_OPTIONS}the title of the page.")] = None,
    out: Annotated[Path | None, typer.Option(help=f"{_FILE_OPTIONS}the folder to write to (report).")] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option("--check", metavar="TEXT", help="Compare the numbers of a .tex or .md file with the report; more files may follow."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the confidence-interval report of a sweep, or of anybody's predictions: HTML, Markdown, LaTeX, CSV, JSON.

    Example: orchestrate report quickstart
    """
    from orchestrator.running import write_report, write_report_of_files

    of_files = {
        "baseline": baseline,
        "measure": measure,
        "confidence": confidence,
        "cluster": resample,
        "resamples": resamples,
        "scores": scores,
        "subgroups": tuple(subgroup) if subgroup else None,
        "title": title,
        "as_published": tuple(as_published) if as_published else None,
    }
    given = {name: value for name, value in of_files.items() if value is not None}
    if check:
        if predictions or given or out:
            raise Error(
                "--check compares texts with a report that is there: orchestrate report SWEEP --check TEXT, or give its report.json"
            )
        texts = [*check, *map(Path, (names or ())[1:])]
        path = _stored(names[0] if names else "", lambda: open_workspace(cluster, sample=sample))
        raise typer.Exit(_compare(path, texts, as_json=as_json))
    if predictions:
        folder, sentences = write_report_of_files([*predictions, *map(Path, names or ())], out or Path("report"), given)
    else:
        option = "out" if out is not None else next(iter(given), None)
        if option is not None:
            option = {"cluster": "resample", "as_published": "as-published", "subgroups": "subgroup"}.get(option, option)
            raise Error(f"--{option} goes with --predictions; a sweep says it in its file, under `report:`")
        if not names or len(names) > 1:
            raise Error("name one sweep, such as `orchestrate report quickstart`, or files: orchestrate report --predictions FILE...")
        workspace = open_workspace(cluster, sample=sample)
        folder, sentences = write_report(workspace.stored_plan(names[0]), workspace)
    if as_json:
        sys.stdout.write((folder / "report.json").read_text(encoding="utf-8"))
        return
    for sentence in sentences:
        typer.echo(sentence)
    typer.echo(f"report: {folder / 'report.html'}")


def _stored(name: str, workspace: Callable[[], Workspace]) -> Path:
    """Return the `report.json` of a sweep, or the one that was named, for where there is no run root."""
    if not name:
        raise Error("name the sweep, or its report.json, before --check: orchestrate report SWEEP --check TEXT")
    if Path(name).suffix == ".json":
        return Path(name)
    opened = workspace()
    return opened.run.sweep(opened.stored_plan(name).sweep).report / "report.json"


def _compare(path: Path, texts: Sequence[Path], *, as_json: bool) -> int:
    """Say where texts differ from a report, and return 1 if they do. Raises ReportError when there is nothing to compare."""
    from orchestrator.report import record
    from orchestrator.report.checking.check import check

    checked = check(record.read(path), texts)
    if as_json:
        print_json({**asdict(checked), "report": str(path)})
    else:
        for fault in checked.faults:
            typer.echo(str(fault))
        typer.echo(checked.summary())
    return EXIT_FAILED if checked.faults else EXIT_DONE
